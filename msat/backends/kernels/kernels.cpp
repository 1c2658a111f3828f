// The library's plain C interface: picks the kernel for a stage and shares (tile, image) pairs among threads.
#include "dispatch.h"
#include "pools.h"

extern "C" {

int lanes() { return LANES; }
int stage_size() { return sizeof(Stage); }

void run_stage(const Stage* s, int neuron, int source, int graded, int threads) {
    const int vectors = s->tile / LANES;
    Kernel kernel = neuron == 0   ? kernel_for<IntegrateAndFire>(source, vectors, graded)
                    : neuron == 1 ? kernel_for<AdaptiveThreshold>(source, vectors, graded)
                    : neuron == 2 ? kernel_for<Current>(source, vectors, graded)
                    : neuron == 4 ? kernel_for<Burst>(source, vectors, graded)
                    : neuron == 5 ? kernel_for<SignedLevels>(source, vectors, graded)
                    : neuron == 6 ? kernel_for<HardOrStrict>(source, vectors, graded)
                    : neuron == 7 ? kernel_for<SignedCounts>(source, vectors, graded)
                                  : nullptr;
    if (neuron == 3) kernel = vectors == 1 ? scan<Pass, 1, false> : vectors == 2 ? scan<Pass, 2, false>
                              : vectors == 4 ? scan<Pass, 4, false> : scan<Pass, 8, false>;
    run_all(*s, kernel, threads);
}

void run_pool(const Pool* q, int batch, int threads) {
    auto kernel = q->current ? inhibit_currents : q->in.value && !q->unit ? inhibit<float> : inhibit<int32_t>;
    share(int64_t(q->out.blocks) * batch, threads, [&](int64_t i) { kernel(*q, int(i % batch), int(i / batch)); });
}

void run_densify(const Lists* in, int begin, int end, int batch, const float* scale, float* frames, int threads) {
    share(batch, threads, [&](int64_t image) { densify(*in, begin, end, batch, int(image), scale, frames); });
}

void run_tally(const Lists* in, int begin, int end, int batch, const float* scale, const float* weight, float* outputs, float* spikes,
               int threads) {
    share(batch, threads, [&](int64_t image) { tally(*in, begin, end, int(image), scale, weight, outputs, spikes); });
}

void run_weigh(const Lists* in, int batch, const double* weight, int by_channel, double* spikes, double* events, int threads) {
    share(batch, threads,
          [&](int64_t image) { weigh(*in, int(image), weight, by_channel, spikes + image * in->steps, events + image * in->steps); });
}

void run_functions(const float* x, float* exponential, float* plus, int64_t n) {
    for (int64_t i = 0; i + LANES <= n; i += LANES) {
        vec e[1] = {load(x + i)}, p[1] = {load(x + i)};
        exp(e), softplus(p);
        store(exponential + i, e[0]), store(plus + i, p[0]);
    }
}
}
