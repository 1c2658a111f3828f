// Scatter: every input event adds its weights to the output rows it reaches; for few channels, where lists are short.
#pragma once
#include "gather.h"

// A cache line: memory in lines begins at one, whatever the width of a vector.
constexpr int LINE = 64 / sizeof(float);
struct alignas(64) Line {
    float values[LINE];
};

// The output rows that are still open, in a ring: each has Wo pixels of one tile and margins that catch what leaves the map.
struct Rows {
    std::vector<Line> memory;
    float* first = nullptr;
    int64_t length = 0;  // floats of a row
    int margin = 0, count = 0;

    float* operator[](int y) const { return first + (y & (count - 1)) * length; }
    void shape(int width, int tile, int left, int open) {
        count = 1;
        while (count < open) count *= 2;
        margin = left;
        length = int64_t(width) * tile;
        memory.resize((count * length + LINE - 1) / LINE);
        first = memory.data()->values;
    }
};

// to += weight (times value), a run of whole pixels of NV vectors each.
template <int NV, bool GRADED>
static inline void add_run(float* to, const float* weight, int pixels, float value) {
    for (int k = 0; k < pixels; k++, to += NV * LANES, weight += NV * LANES) {
#pragma GCC unroll 8
        for (int v = 0; v < NV; v++) {
            vec w = load(weight + v * LANES);
            store(to + v * LANES, load(to + v * LANES) + (GRADED ? w * value : w));
        }
    }
}

// Adds the events of input row iy: column x reaches the outputs x' with stride * x' = x + padding - kx. For one residue of
// x + padding these outputs are neighbours, and so are their weights, packed in that order: one run of additions.
template <int NV, bool GRADED, int TAPS>
static inline void scatter_row(const Term& k, const Lists& source, int image, int t, int iy, int tile, const float* weight,
                               float* const* rows, const int* taps, int count, int margin) {
    const uint32_t reciprocal = k.reciprocal, low = k.low[tile], span = k.span;
    const int64_t per_row = int64_t(k.kernel[1]) * NV * LANES, per_channel = per_row * k.kernel[0];
    for (int g = 0; g < source.blocks; g++) {
        const Stream in = source.stream(image, g, t);
        for (int py = 0; py < k.pool[0]; py++) {
            const uint32_t* start = in.start + int64_t(iy * k.pool[0] + py) * source.width;
            for (uint32_t i = start[0]; i < start[k.size[1] * k.pool[1]]; i++) {
                const uint32_t code = in.code[i], channel = (code & 0xffff) - low;
                if (span < uint32_t(source.channels) && channel >= span) continue;
                const uint32_t x = ((code >> 16) * reciprocal >> 16) + k.padding[1];
                const uint32_t last = TAPS ? x : x / k.stride[1], phase = TAPS ? 0 : x % k.stride[1];
                const int run = TAPS ? TAPS : k.run[phase + 1] - k.run[phase];
                const int64_t to = (int64_t(last) - run + 1 + margin) * (NV * LANES);
                const float* from = weight + channel * per_channel + (TAPS ? 0 : k.run[phase]) * (NV * LANES);
                const float value = GRADED ? (in.value ? in.value[i] : 1.f) : 1.f;
                for (int r = 0; r < count; r++)
                    add_run<NV, GRADED>(rows[r] + to, from + taps[r] * per_row, TAPS ? TAPS : run, value);
            }
        }
    }
}

template <int NV, bool GRADED>
static inline void scatter_term(const Stage& s, const Term& k, int image, int t, int iy, int tile, const float* weight, const Rows& open) {
    float* rows[64];
    int taps[64], count = 0;
    for (int ky = 0; ky < k.kernel[0]; ky++) {
        const int y = iy + k.padding[0] - ky * k.dilation[0];
        if (y < 0 || y % k.stride[0] || y / k.stride[0] >= s.height) continue;
        rows[count] = open[y / k.stride[0]], taps[count++] = ky;
    }
    const bool plain = k.stride[1] == 1;
    auto run = plain && k.kernel[1] == 3   ? scatter_row<NV, GRADED, 3>
               : plain && k.kernel[1] == 1 ? scatter_row<NV, GRADED, 1>
                                           : scatter_row<NV, GRADED, 0>;
    if (count) run(k, k.source, image, t, iy, tile, weight, rows, taps, count, open.margin);
}

// Adds the identity shortcuts' events of output row y.
static inline void shortcut_row(const Stage& s, int image, int g, int y, int t, float* row) {
    for (int k = 0; k < s.shortcuts; k++) {
        const Shortcut& cut = s.shortcut[k];
        const int low = g * s.tile - cut.offset, iy = y * cut.stride[0], step = cut.stride[1];
        for (int block = 0; block < cut.source.blocks; block++) {
            if ((block + 1) * cut.source.block <= low || block * cut.source.block >= low + s.tile) continue;
            const Stream in = cut.source.stream(image, block, t);
            const uint32_t* start = in.start + int64_t(iy) * cut.source.width;
            for (uint32_t i = start[0]; i < start[cut.source.width]; i++) {
                const int channel = in.code[i] & 0xffff, lane = channel - low, x = in.code[i] >> 16;
                if (lane < 0 || lane >= s.tile || (step > 1 && x % step)) continue;
                row[(step > 1 ? x / step : x) * s.tile + lane] += in.value ? in.value[i] : cut.scale[channel];
            }
        }
    }
}

// Loop order: step -> output row (input rows are added as soon as a row needs them, so that the open rows stay in L1).
template <template <int> class Neuron, int NV, bool GRADED>
void scatter(const Stage& s, int image, int g) {
    static thread_local Rows open;
    int left = 0, right = s.width, rows = 1;
    for (int k = 0; k < s.terms; k++) {
        const Term& term = s.term[k];
        const int reach = (term.size[1] - 1 + term.padding[1]) / term.stride[1] + 1;
        const int span = (term.kernel[0] - 1) * term.dilation[0] / term.stride[0] + 2;
        left = left > term.kernel[1] ? left : term.kernel[1], right = right > reach ? right : reach, rows = rows > span ? rows : span;
    }
    open.shape(left + right, s.tile, left, rows);
    Neuron<NV> neuron(s, image, g);
    const float* bias = s.bias + g * (s.bias_step ? s.pixels() * s.tile : s.tile);
    auto clear = [&](int y) {
        float* to = open[y] + left * s.tile;
        for (int x = 0; y < s.height && x < s.width; x++)
            for (int v = 0; v < NV; v++) store(to + (x * NV + v) * LANES, load(bias + (int64_t(y) * s.width + x) * s.bias_step + v * LANES));
    };
    std::vector<int> next(s.terms);
    for (int t = s.begin; t < s.end; t++) {
        for (int k = 0; k < s.terms; k++) next[k] = 0;
        for (int y = 0; y < open.count; y++) clear(y);
        for (int y = 0; y < s.height; y++) {
            for (int k = 0; k < s.terms; k++) {
                const Term& term = s.term[k];
                const int needed = y * term.stride[0] - term.padding[0] + (term.kernel[0] - 1) * term.dilation[0];
                const float* weight = s.weight + (int64_t(g) * (s.rows + 1) + term.row) * s.tile;
                for (; next[k] <= needed && next[k] < term.size[0]; next[k]++) scatter_term<NV, GRADED>(s, term, image, t, next[k], g, weight, open);
            }
            float* row = open[y] + left * s.tile;
            if (s.shortcuts) shortcut_row(s, image, g, y, t, row);
            advance<Neuron<NV>, NV>(neuron, row, int64_t(y) * s.width, s.width, 0, t);
            clear(y + open.count);
        }
    }
}
