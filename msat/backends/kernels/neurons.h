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
    uint32_t valid(int v) const { return within(lanes - v * LANES); }
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

// Vectors that a neuron computes together: independent of each other, so that they hide each other's latency.
constexpr int TOGETHER = 8;
template <int NV>
constexpr int GROUP = NV >= TOGETHER ? 1 : TOGETHER / NV;  // the same in pixels

// Advances neighbouring pixels p .. by one step; currents [pixels, NV vectors]. Columns start at x.
template <class Neuron, int NV>
static inline void advance(Neuron& neuron, const float* currents, int64_t p, int pixels, int x, int t) {
    if constexpr (Neuron::WRITES) {
        for (int i = 0; i < pixels; i++) neuron.write(currents + i * NV * LANES, p + i, t);
    } else {
        for (int i = 0; i < pixels; i += GROUP<NV>) {
            const int now = pixels - i < GROUP<NV> ? pixels - i : GROUP<NV>;
            uint32_t fired[GROUP<NV> * NV];
            alignas(64) float value[GROUP<NV> * NV * LANES], count[GROUP<NV> * NV * LANES];
            neuron.fire(currents + i * NV * LANES, p + i, now * NV, t, fired, value, count);
            for (int k = 0; k < now; k++) {
                const float *values = value + k * NV * LANES, *counts = count + k * NV * LANES;
                if (Neuron::COUNTS && neuron.s.out.count)
                    append<NV, true, true>(neuron.w, p + i + k, x + i + k, t, fired + k * NV, values, counts);
                else
                    append<NV, Neuron::VALUES, false>(neuron.w, p + i + k, x + i + k, t, fired + k * NV, values, counts);
            }
        }
    }
}

// Where a tile's parameters lie: one vector row for all pixels, or one for each.
template <int NV>
struct Parameters {
    const float* first;
    bool each;

    Parameters(const Stage& s, const float* values, int64_t step, int g)
        : first(values + g * (step ? s.pixels() * s.tile : s.tile)), each(step) {}
    vec operator()(int64_t p, int v) const { return load(first + (each ? p * NV + v : v % NV) * LANES); }
};

// Integrate-and-fire with soft reset, (IF1)-(IF4).
template <int NV>
struct IntegrateAndFire {
    static constexpr bool WRITES = false, VALUES = false, COUNTS = false;
    const Stage& s;
    Writer w;
    float* v;
    Parameters<NV> theta;

    IntegrateAndFire(const Stage& s, int image, int g)
        : s(s), w(s, image, g), v(s.state[0] + s.cell(image, g)), theta(s, s.theta, s.theta_step, g) {}

    void fire(const float* x, int64_t p, int vectors, int, uint32_t* fired, float*, float*) {
        float* at = v + p * NV * LANES;
        for (int i = 0; i < vectors; i++) {
            vec m = load(at + i * LANES) + load(x + i * LANES), h = theta(p, i);
            fired[i] = bits(m >= h);
            store(at + i * LANES, m >= h ? m - h : m);
        }
        if (w.lanes < NV * LANES)
            for (int i = 0; i < vectors; i++) fired[i] &= w.valid(i % NV);
    }
};

// The same with reset to zero (IF3') or with spikes above the threshold only.
template <int NV>
struct HardOrStrict : IntegrateAndFire<NV> {
    using IntegrateAndFire<NV>::IntegrateAndFire;

    void fire(const float* x, int64_t p, int vectors, int, uint32_t* fired, float*, float*) {
        float* at = this->v + p * NV * LANES;
        const Levels& l = this->s.levels;
        for (int i = 0; i < vectors; i++) {
            vec m = load(at + i * LANES) + load(x + i * LANES), h = this->theta(p, i);
            ivec spike = l.strict ? m > h : m >= h;
            fired[i] = bits(spike) & this->w.valid(i % NV);
            store(at + i * LANES, spike ? (l.hard ? vec{} : m - h) : m);
        }
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
    static constexpr bool WRITES = false, VALUES = true, COUNTS = false;
    const Stage& s;
    const Adaptive& a;
    Writer w;
    float *v, *mean;
    Parameters<NV> V;
    uint64_t sample;

    AdaptiveThreshold(const Stage& s, int image, int g)
        : s(s), a(s.adaptive), w(s, image, g), v(s.state[0] + s.cell(image, g)), mean(s.state[1] + s.cell(image, g)),
          V(s, s.theta, s.theta_step, g), sample(a.samples[image]) {}

    // theta = V sigmoid(DTT + DET), (M3)-(M6); h holds V before and theta after.
    template <int K>
    void threshold(vec (&h)[K], const vec (&x)[K], vec (&d)[K]) const {
        vec z[K], stimulus[K] = {}, unit[K];
        EACH unit[k] = a.normalised ? h[k] : all(1.f);
        if (a.normalised) EACH d[k] = d[k] / unit[k];
        if (a.dtt) {
            EACH z[k] = d[k] * a.inverse_k_i;
            softplus(z);
            EACH stimulus[k] = a.tau_mp * (a.alpha * d[k] - (a.normalised ? all(1.f) : h[k]) + a.k_a * z[k]);
        }
        if (a.det) {
            EACH z[k] = -x[k] * a.inverse_C;
            if (a.normalised) EACH z[k] = z[k] / unit[k];
            exp(z);
            EACH stimulus[k] += a.tau_rd * z[k];
        }
        EACH z[k] = -stimulus[k];
        exp(z);
        EACH h[k] = h[k] / (1.f + z[k]);
    }

    // Spike confidence (M9): which of the fired neurons pass, by a hash of key, input, neuron and step.
    uint32_t kept(uint32_t fired, int i, int64_t p, int t) const {
        const uint64_t row = mix(mix((uint64_t(s.first + t) + 1) * 0x9E3779B97F4A7C15ull + a.key) + sample * 0xBF58476D1CE4E5B9ull);
        uint32_t pass = 0;
        for (uint32_t left = fired; left; left &= left - 1) {
            const uint64_t neuron = (w.base + i % NV * LANES + __builtin_ctz(left)) * s.pixels() + p + i / NV;
            const float u = float(mix(row + neuron * 0x9E3779B97F4A7C15ull) >> 40) / 16777216.f;
            if (u >= a.drop) pass |= left & -left;
        }
        return pass;
    }

    template <int K>
    void fire(const float* x, int64_t p, int first, int t, uint32_t* fired, float* sent) {
        float *at = v + p * NV * LANES, *mt = mean + p * NV * LANES;
        const bool constant = s.first + t == 0 || !(a.dtt || a.det), filter = a.filter && s.first + t < a.filter_steps;
        const vec share = all(1.f / float(s.first + t + 1));
        vec current[K], before[K], average[K], h[K], d[K];
        EACH current[k] = load(x + (first + k) * LANES);
        EACH before[k] = load(at + (first + k) * LANES);
        EACH average[k] = load(mt + (first + k) * LANES);
        EACH h[k] = V(p, first + k);  // (M2)
        EACH d[k] = before[k] - average[k];
        if (!constant) threshold(h, current, d);
        EACH {
            const int i = first + k;
            vec m = before[k] + current[k];  // (M1)
            ivec spike = m >= h[k];          // (M7)
            fired[i] = bits(spike) & w.valid(i % NV);
            if (filter) fired[i] = kept(fired[i], i, p, t);
            if (filter && a.filter == 2) spike = lanes_of(fired[i]);
            vec after = spike ? m - h[k] : m;  // (M8)
            store(at + i * LANES, after);
            store(mt + i * LANES, average[k] + (after - average[k]) * share);  // (M11)
            store(sent + i * LANES, h[k]);                                     // (M10)
        }
    }

    void fire(const float* x, int64_t p, int vectors, int t, uint32_t* fired, float* sent, float*) {
        constexpr int K = 4;  // side by side: more than AVX2 has registers for, but two wait for each other longer than four spill
        int i = 0;
        for (; i + K <= vectors; i += K) fire<K>(x, p, i, t, fired, sent);
        for (; i < vectors; i++) fire<1>(x, p, i, t, fired, sent);
    }
};

// Up to `cap` spikes in a step (methods.md B9, D7); as a binary number also H-MT's members (D8), whose smallest theta is.
template <int NV>
struct Burst {
    static constexpr bool WRITES = false, VALUES = true, COUNTS = true;
    const Stage& s;
    Writer w;
    float* v;
    Parameters<NV> theta;

    Burst(const Stage& s, int image, int g)
        : s(s), w(s, image, g), v(s.state[0] + s.cell(image, g)), theta(s, s.theta, s.theta_step, g) {}

    void fire(const float* x, int64_t p, int vectors, int, uint32_t* fired, float* value, float* count) {
        float* at = v + p * NV * LANES;
        for (int i = 0; i < vectors; i++) {
            vec m = load(at + i * LANES) + load(x + i * LANES), h = theta(p, i);
            ivec n = __builtin_convertvector(smaller(larger(m / h, vec{}), all(s.levels.cap)), ivec);
            vec sent = __builtin_convertvector(n, vec) * h;
            store(at + i * LANES, m - sent);
            store(value + i * LANES, sent);
            store(count + i * LANES, __builtin_convertvector(s.levels.as_bits ? ones(n) : n, vec));
            fired[i] = bits(n > 0) & w.valid(i % NV);
        }
    }

    // How many of the 16 low bits are set.
    static ivec ones(ivec n) {
        n = n - (n >> 1 & 0x5555);
        n = (n & 0x3333) + (n >> 2 & 0x3333);
        n = (n + (n >> 4)) & 0x0f0f;
        return (n + (n >> 8)) & 0x1f;
    }
};

// Up to `cap` spikes of either sign in a step (methods.md C5, C8); gated: never taking back more than was sent.
template <int NV>
struct SignedCounts {
    static constexpr bool WRITES = false, VALUES = true, COUNTS = true;
    const Stage& s;
    Writer w;
    float *v, *sent;
    Parameters<NV> theta;

    SignedCounts(const Stage& s, int image, int g)
        : s(s), w(s, image, g), v(s.state[0] + s.cell(image, g)), sent(s.state[1] + s.cell(image, g)),
          theta(s, s.theta, s.theta_step, g) {}

    void fire(const float* x, int64_t p, int vectors, int, uint32_t* fired, float* value, float* count) {
        float *at = v + p * NV * LANES, *total = sent + p * NV * LANES;
        const vec cap = all(s.levels.cap);
        for (int i = 0; i < vectors; i++) {
            vec m = load(at + i * LANES) + load(x + i * LANES), h = theta(p, i), before = load(total + i * LANES);
            ivec n = __builtin_convertvector(smaller(larger(m / h, -cap), cap), ivec);  // towards zero, (2)
            if (s.levels.gated) {
                ivec back = -__builtin_convertvector(before / h + 0.5f, ivec);  // what was sent is a whole number of spikes
                n = n > back ? n : back;
            }
            vec spikes = __builtin_convertvector(n, vec), o = spikes * h;
            store(at + i * LANES, m - o);                                     // (3)
            store(total + i * LANES, before + o);                            // (5)
            store(value + i * LANES, o);                                      // (4)
            store(count + i * LANES, spikes < 0.f ? -spikes : spikes);
            fired[i] = bits(n != 0) & w.valid(i % NV);
        }
    }
};

// One member theta / 2^i of either sign in a step (DCGS, methods.md D1), never taking back more than was sent. Differential:
// currents and spikes are changes of the running estimates e_in and e_out.
template <int NV>
struct SignedLevels {
    static constexpr bool WRITES = false, VALUES = true, COUNTS = false;
    const Stage& s;
    const Levels& l;
    Writer w;
    float *v, *sent, *e_in, *e_out;
    Parameters<NV> theta, quiet;

    SignedLevels(const Stage& s, int image, int g)
        : s(s), l(s.levels), w(s, image, g), v(s.state[0] + s.cell(image, g)), sent(s.state[1] + s.cell(image, g)),
          e_in(s.state[2] + s.cell(image, g)), e_out(s.state[3] + s.cell(image, g)),
          theta(s, s.theta, s.theta_step, g), quiet(s, l.quiet, l.quiet_step, g) {}

    vec choose(vec m, vec total, vec h) const {
        vec spike = {};
        for (int i = l.members - 1; i >= 0; i--) {  // from small to large: the largest wins
            vec member = h * (1.f / float(1 << i));
            spike = m >= l.up * member ? member : spike;
            spike = (m <= -l.down * member) & (total >= member) ? -member : spike;
        }
        return spike;
    }

    void fire(const float* x, int64_t p, int vectors, int t, uint32_t* fired, float* value, float*) {
        const int64_t cell = p * NV * LANES;
        const vec step = all(float(s.first + t + 1));
        for (int i = 0; i < vectors; i++) {
            const int64_t at = cell + i * LANES;
            vec m = load(v + at), total = load(sent + at), change = load(x + i * LANES);
            if (l.differential) {
                change = change - quiet(p, i);
                vec in = load(e_in + at), out = load(e_out + at);
                total = total + out;                                // (2)
                m = m + (change + in - out);                        // (1)
                vec spike = choose(m, total, theta(p, i));          // (3)
                store(e_in + at, in + change / step);               // (5); divided, as PyTorch does: a neuron at rest meets
                store(e_out + at, out + spike / step);              // its threshold exactly
                finish(at, i, m, total, spike, fired, value);
            } else {
                m = m + change;
                finish(at, i, m, total, choose(m, total, theta(p, i)), fired, value);
            }
        }
    }

    void finish(int64_t at, int i, vec m, vec total, vec spike, uint32_t* fired, float* value) const {
        store(v + at, m - spike);  // (4)
        store(sent + at, total + spike);
        store(value + i * LANES, spike);
        fired[i] = bits(spike != 0.f) & w.valid(i % NV);
    }
};

// Turns dense outputs into lists: what is not zero, or counted as a spike, is an event.
template <int NV>
struct Pass {
    static constexpr bool WRITES = false, VALUES = true, COUNTS = true;
    const Stage& s;
    Writer w;
    int image;

    Pass(const Stage& s, int image, int g) : s(s), w(s, image, g), image(image) {}

    void fire(const float* x, int64_t p, int vectors, int t, uint32_t* fired, float* value, float* count) {
        for (int i = 0; i < vectors; i++) {
            store(value + i * LANES, load(x + i * LANES));
            store(count + i * LANES, vec{});
        }
        if (s.spikes) {
            const float* from = s.spikes + (t - s.begin) * s.current_time + (image * s.pixels() + p) * s.channels + w.base;
            for (int i = 0; i < vectors / NV; i++)
                memcpy(count + i * NV * LANES, from + int64_t(i) * s.channels, w.lanes * sizeof(float));
        }
        for (int i = 0; i < vectors; i++)
            fired[i] = bits((load(value + i * LANES) != 0.f) | (load(count + i * LANES) != 0.f)) & w.valid(i % NV);
    }
};

// Writes currents for a neuron that PyTorch advances.
template <int NV>
struct Current {
    static constexpr bool WRITES = true;
    const Stage& s;
    float* sink;
    int lanes;

    Current(const Stage& s, int image, int g)
        : s(s), sink(s.sink + image * s.pixels() * s.channels + g * s.tile), lanes(s.lanes(g)) {}

    void write(const float* x, int64_t p, int t) {
        memcpy(sink + ((t - s.begin) * int64_t(s.batch) * s.pixels() + p) * s.channels, x, lanes * sizeof(float));
    }
};
