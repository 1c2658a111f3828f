// What happens to the currents of one tile of channels at one pixel and step: fire and append events, or write them out.
#pragma once
#include <vector>

#include "lists.h"

// Appends the events of one (image, tile): keeps the streams of all steps at hand.
struct Writer {
    std::vector<Stream> streams;
    uint32_t base = 0;
    int lanes = 0;

    Writer(const Stage& s, int image, int g) : base(g * s.tile), lanes(s.lanes(g)) {
        for (int t = 0; t < s.end; t++) streams.push_back(s.out.stream(image, g, t));
        for (int t = s.begin; t < s.end; t++) streams[t].start[0] = 0;
    }
    // Bits of channels that exist: the last tile may be wider than what is left.
    uint32_t valid(int v) const {
        int left = lanes - v * LANES;
        return left >= LANES ? (LANES == 32 ? ~0u : (1u << LANES) - 1) : left <= 0 ? 0 : (1u << left) - 1;
    }
};

// Appends the fired neurons of one tile at pixel p, without a branch where the processor can compress vectors.
template <int NV, bool VALUE, bool COUNT>
static inline void append(Writer& w, int64_t p, int x, int t, const uint32_t* fired, const float* value, const float* count) {
    Stream& out = w.streams[t];
    uint32_t n = out.start[p];
    uvec code = count_up() + (uint32_t(x) << 16 | w.base);
#pragma GCC unroll 8
    for (int v = 0; v < NV; v++, code += LANES) {
        if (VALUE) compress(out.value + n, fired[v], load(value + v * LANES));
        if (COUNT) compress(out.count + n, fired[v], load(count + v * LANES));
        n += compress(out.code + n, fired[v], code);
    }
    out.start[p + 1] = n;
}

// Integrate-and-fire with soft reset, (IF1)-(IF4).
template <int NV>
struct IntegrateAndFire {
    const Stage& s;
    Writer w;
    float* v;
    const float* theta;

    IntegrateAndFire(const Stage& s, int image, int g)
        : s(s), w(s, image, g), v(s.v + s.cell(image, g)),
          theta(s.theta + g * (s.theta_step ? s.pixels() * s.tile : s.tile)) {}

    void operator()(const vec* x, int64_t p, int column, int t) {
        uint32_t fired[NV];
        float* at = v + p * s.tile;
        const float* th = theta + p * s.theta_step;
#pragma GCC unroll 8
        for (int i = 0; i < NV; i++) {
            vec m = load(at + i * LANES) + x[i], h = load(th + i * LANES);
            fired[i] = bits(m >= h);
            store(at + i * LANES, m >= h ? m - h : m);
        }
        if (w.lanes < s.tile)
            for (int i = 0; i < NV; i++) fired[i] &= w.valid(i);
        append<NV, false, false>(w, p, column, t, fired, nullptr, nullptr);
    }
};

static inline uint64_t mix(uint64_t z) {  // msat/randomness.py
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

// MSAT's adaptive threshold, (M1)-(M11).
template <int NV>
struct AdaptiveThreshold {
    const Stage& s;
    const Adaptive& a;
    Writer w;
    float *v, *mean;
    const float* V;
    uint64_t sample;

    AdaptiveThreshold(const Stage& s, int image, int g)
        : s(s), a(s.adaptive), w(s, image, g), v(s.v + s.cell(image, g)), mean(s.mean + s.cell(image, g)),
          V(s.theta + g * (s.theta_step ? s.pixels() * s.tile : s.tile)), sample(a.samples[image]) {}

    vec threshold(vec V, vec x, vec d) const {  // (M3)-(M6)
        vec one = all(1.f), inverse = a.normalised ? one / V : one, stimulus = {};
        d *= inverse;
        if (a.dtt) stimulus += a.tau_mp * (a.alpha * d - (a.normalised ? one : V) + a.k_a * softplus(d * a.inverse_k_i));
        if (a.det) stimulus += a.tau_rd * exp(-x * inverse * a.inverse_C);
        return V / (1.f + exp(-stimulus));
    }

    // Spike confidence (M9): which of the fired neurons pass, by a hash of key, input, neuron and step.
    uint32_t kept(uint32_t fired, int i, int64_t p, int t) const {
        uint64_t row = mix(mix((uint64_t(s.first + t) + 1) * 0x9E3779B97F4A7C15ull + a.key) + sample * 0xBF58476D1CE4E5B9ull);
        uint32_t pass = 0;
        for (uint32_t left = fired; left; left &= left - 1) {
            uint64_t neuron = (w.base + i * LANES + __builtin_ctz(left)) * s.pixels() + p;
            float u = float(mix(row + neuron * 0x9E3779B97F4A7C15ull) >> 40) / 16777216.f;
            if (u >= a.drop) pass |= left & -left;
        }
        return pass;
    }

    void operator()(const vec* x, int64_t p, int column, int t) {
        uint32_t fired[NV];
        alignas(64) float sent[NV * LANES];
        float *at = v + p * s.tile, *mt = mean + p * s.tile;
        const bool constant = s.first + t == 0 || !(a.dtt || a.det), filter = a.filter && s.first + t < a.filter_steps;
        const vec share = all(1.f / float(s.first + t + 1));
        for (int i = 0; i < NV; i++) {
            vec before = load(at + i * LANES), average = load(mt + i * LANES), h = load(V + p * s.theta_step + i * LANES);
            if (!constant) h = threshold(h, x[i], before - average);
            vec m = before + x[i];  // (M1)
            ivec spike = m >= h;    // (M7)
            fired[i] = bits(spike) & w.valid(i);
            uint32_t pass = filter ? kept(fired[i], i, p, t) : fired[i];
            if (filter && a.filter == 2) spike = lanes_of(pass);
            vec after = spike ? m - h : m;  // (M8)
            store(at + i * LANES, after);
            store(mt + i * LANES, average + (after - average) * share);  // (M11)
            store(sent + i * LANES, h);                                  // (M10)
            fired[i] = pass;
        }
        append<NV, true, false>(w, p, column, t, fired, sent, nullptr);
    }
};

// Turns dense outputs into lists: what is not zero is an event.
template <int NV>
struct Pass {
    const Stage& s;
    Writer w;
    int image;

    Pass(const Stage& s, int image, int g) : s(s), w(s, image, g), image(image) {}

    void operator()(const vec* x, int64_t p, int column, int t) {
        uint32_t fired[NV];
        alignas(64) float value[NV * LANES], count[NV * LANES] = {};
        if (s.spikes) {
            const float* from = s.spikes + (t - s.begin) * s.current_time + (image * s.pixels() + p) * s.channels + w.base;
            memcpy(count, from, w.lanes * sizeof(float));
        }
        for (int i = 0; i < NV; i++) {
            store(value + i * LANES, x[i]);
            fired[i] = bits((x[i] != 0.f) | (load(count + i * LANES) != 0.f)) & w.valid(i);
        }
        if (s.spikes)
            append<NV, true, true>(w, p, column, t, fired, value, count);
        else
            append<NV, true, false>(w, p, column, t, fired, value, nullptr);
    }
};

// Writes currents for a neuron that PyTorch advances.
template <int NV>
struct Current {
    const Stage& s;
    float* sink;
    int lanes;

    Current(const Stage& s, int image, int g)
        : s(s), sink(s.sink + image * s.pixels() * s.channels + g * s.tile), lanes(s.lanes(g)) {}

    void operator()(const vec* x, int64_t p, int, int t) {
        float* to = sink + ((t - s.begin) * int64_t(s.batch) * s.pixels() + p) * s.channels;
        if (lanes == NV * LANES)
            for (int i = 0; i < NV; i++) store(to + i * LANES, x[i]);
        else
            memcpy(to, x, lanes * sizeof(float));
    }
};
