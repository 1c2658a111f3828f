// Which instance of a kernel serves a stage, and (tile, image) pairs shared among threads.
#pragma once
#include <atomic>
#include <thread>

#include "scatter.h"

// Runs work(i) for i < count on `threads` threads. Threads are made anew for each call (about 10 us): no pool to compete with torch's.
template <class Work>
static void share(int64_t count, int threads, Work work) {
    std::atomic<int64_t> next{0};
    auto run = [&] {
        for (int64_t i; (i = next++) < count;) work(i);
    };
    std::vector<std::thread> helpers;
    for (int k = 1; k < threads && k < count; k++) helpers.emplace_back(run);
    run();
    for (auto& helper : helpers) helper.join();
}

using Kernel = void (*)(const Stage&, int image, int tile);
enum Source { GATHER, SCAN, SCATTER };

template <template <int> class Neuron, int NV>
static Kernel kernel_for(int source, bool graded) {
    if (source == SCAN) return scan<Neuron, NV, false>;
    if constexpr (NV <= 4)
        if (source == SCATTER) return graded ? scatter<Neuron, NV, true> : scatter<Neuron, NV, false>;
    return graded ? gather<Neuron, NV, true> : gather<Neuron, NV, false>;
}

template <template <int> class Neuron>
static Kernel kernel_for(int source, int vectors, bool graded) {
    if (vectors == 1) return kernel_for<Neuron, 1>(source, graded);
    if (vectors == 2) return kernel_for<Neuron, 2>(source, graded);
    if (vectors == 4) return kernel_for<Neuron, 4>(source, graded);
    return kernel_for<Neuron, 8>(source, graded);
}

// Tile outermost: its weights stay in the cache for all images.
static inline void run_all(const Stage& s, Kernel kernel, int threads) {
    share(int64_t(s.tiles) * s.batch, threads, [&](int64_t i) { kernel(s, int(i % s.batch), int(i / s.batch)); });
}
