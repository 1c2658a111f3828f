// Gather: currents of one tile of channels at one output pixel are summed in registers from the weight rows of active inputs.
#pragma once
#include "neurons.h"

// Weight rows (and values, for graded events) of the active inputs of one output pixel, step after step.
struct Scratch {
    std::vector<uint32_t> rows;
    std::vector<float> values;
    int size = 0;

    void reserve(size_t most, bool graded) {
        if (rows.size() < most) rows.resize(most);
        if (graded && values.size() < most) values.resize(most);
    }
};

// Neighbouring pixels of a source that one output pixel reads, and the weight row of column 0, channel 0.
struct Segment {
    int64_t from, to;
    uint32_t base;
};

// A term seen from one image: the streams of its source [blocks, steps], and its segments at the current output pixel.
struct View {
    const Term& k;
    std::vector<Stream> streams;
    std::vector<Segment> segments;

    View(const Term& k, int image) : k(k) {
        for (int g = 0; g < k.source.blocks; g++)
            for (int t = 0; t < k.source.steps; t++) streams.push_back(k.source.stream(image, g, t));
    }

    // Without dilation the taps of a kernel row read neighbouring pixels: one segment for all of them.
    void look(int oy, int ox, uint32_t low) {
        segments.clear();
        const int runs = k.dilation[1] == 1 ? 1 : k.kernel[1], wide = k.dilation[1] == 1 ? k.kernel[1] : 1;
        for (int ky = 0; ky < k.kernel[0]; ky++) {
            const int iy = oy * k.stride[0] - k.padding[0] + ky * k.dilation[0];
            if (iy < 0 || iy >= k.size[0]) continue;
            for (int kx = 0; kx < runs; kx++) {
                const int ix = ox * k.stride[1] - k.padding[1] + kx * k.dilation[1];
                const int left = ix < 0 ? 0 : ix, right = ix + wide < k.size[1] ? ix + wide : k.size[1];
                if (left >= right) continue;
                const uint32_t base = k.row + (ky * k.kernel[1] + kx - ix) * k.span - low;
                for (int py = 0; py < k.pool[0]; py++) {
                    const int64_t row = int64_t(iy * k.pool[0] + py) * k.source.width;
                    segments.push_back({row + left * k.pool[1], row + right * k.pool[1], base});
                }
            }
        }
    }
};

// Appends events from .. to as weight rows: column / pool * span + channel + base. Whole vectors, the first unasked: short
// lists branch nowhere.
template <bool GRADED>
static inline void append_rows(const Stream& in, uint32_t from, uint32_t to, const Term& k, uint32_t base, Scratch& out) {
    uint32_t *rows = out.rows.data() + out.size, i = from;
    float* values = out.values.data() + out.size;
    do {
        uvec code = load(in.code + i);
        uvec column = (code >> 16) * uint32_t(k.reciprocal) >> 16;
        store(rows + (i - from), column * uint32_t(k.span) + (code & 0xffff) + base);
        if (GRADED) store(values + (i - from), in.value ? load(in.value + i) : all(1.f));
        i += LANES;
    } while (__builtin_expect(i < to, false));
    out.size += to - from;
}

// The same with groups: only channels low .. low + span.
template <bool GRADED>
static inline void append_group(const Stream& in, uint32_t from, uint32_t to, const Term& k, uint32_t base, uint32_t low, Scratch& out) {
    for (uint32_t i = from; i < to; i++) {
        const uint32_t code = in.code[i], channel = code & 0xffff;
        out.rows[out.size] = ((code >> 16) * k.reciprocal >> 16) * k.span + channel + base;
        if (GRADED) out.values[out.size] = in.value ? in.value[i] : 1.f;
        out.size += channel - low < uint32_t(k.span);
    }
}

// Lists the weight rows of the active inputs at step t.
template <bool GRADED>
static inline void collect(const View& view, int t, uint32_t low, Scratch& out) {
    const Term& k = view.k;
    const bool grouped = k.span < k.source.channels;
    for (int g = 0; g < k.source.blocks; g++) {
        const Stream& in = view.streams[g * k.source.steps + t];
        if (grouped && (uint32_t(g * k.source.block) >= low + k.span || uint32_t((g + 1) * k.source.block) <= low)) continue;
        for (const Segment& at : view.segments) {
            const uint32_t from = in.start[at.from], to = in.start[at.to];
            if (grouped)
                append_group<GRADED>(in, from, to, k, at.base, low, out);
            else
                append_rows<GRADED>(in, from, to, k, at.base, out);
        }
    }
}

// acc += sum of n weight rows (times values). Few accumulators would wait for each other: narrow tiles keep several sets.
constexpr int UNROLL = 4;
template <int NV, bool GRADED>
static inline void sum_rows(vec* acc, const float* weight, const uint32_t* rows, const float* values, int n) {
    constexpr int SETS = NV >= 4 ? 1 : 4 / NV;
    vec sums[SETS][NV] = {};
    for (int i = 0; i < n; i += UNROLL) {
#pragma GCC unroll 4
        for (int u = 0; u < UNROLL; u++) {
            const float* row = weight + size_t(rows[i + u]) * (NV * LANES);
#pragma GCC unroll 8
            for (int v = 0; v < NV; v++) {
                if (GRADED)
                    sums[u % SETS][v] += load(row + v * LANES) * values[i + u];
                else
                    sums[u % SETS][v] += load(row + v * LANES);
            }
        }
    }
#pragma GCC unroll 8
    for (int v = 0; v < NV; v++)
        for (int k = 0; k < SETS; k++) acc[v] += sums[k][v];
}

// Fills a list up to a multiple of UNROLL with the zero row.
template <bool GRADED>
static inline void fill_up(Scratch& list, uint32_t zero_row) {
    for (int i = 0; i < UNROLL; i++) list.rows[list.size + i] = zero_row;
    if (GRADED)
        for (int i = 0; i < UNROLL; i++) list.values[list.size + i] = 0.f;
    list.size = (list.size + UNROLL - 1) / UNROLL * UNROLL;
}

// Adds the identity shortcuts' events of pixel (y, x) at step t to the currents of one tile.
static inline void add_shortcuts(const Stage& s, int image, int g, int y, int x, int t, float* current) {
    for (int k = 0; k < s.shortcuts; k++) {
        const Shortcut& cut = s.shortcut[k];
        const int64_t p = int64_t(y) * cut.stride[0] * cut.source.width + x * cut.stride[1];
        const int low = g * s.tile - cut.offset;  // source channels low .. low + tile land in this tile
        for (int block = 0; block < cut.source.blocks; block++) {
            if ((block + 1) * cut.source.block <= low || block * cut.source.block >= low + s.tile) continue;
            const Stream in = cut.source.stream(image, block, t);
            for (uint32_t i = in.start[p]; i < in.start[p + 1]; i++) {
                const int channel = in.code[i] & 0xffff, lane = channel - low;
                if (lane >= 0 && lane < s.tile) current[lane] += in.value ? in.value[i] : cut.scale[channel];
            }
        }
    }
}

// Loop order: tile (its weights stay in L2) -> image -> pixel -> step. With time innermost the rows of a pixel's active inputs
// recur over the steps of the chunk and come from L1, and the neurons' state stays there too. The lists of all steps come before
// the first sum, so that a mispredicted end of a sum does not wait for the chain start -> code -> row -> weight of the next.
template <template <int> class Neuron, int NV, bool GRADED>
void gather(const Stage& s, int image, int g) {
    static thread_local Scratch list;
    std::vector<View> views;
    std::vector<int> ends(s.end);
    size_t most = 2 * SPARE;
    for (int k = 0; k < s.terms; k++) {
        const Term& term = s.term[k];
        views.emplace_back(term, image);
        most += size_t(term.kernel[0]) * term.kernel[1] * term.pool[0] * term.pool[1] * term.source.channels;
    }
    list.reserve(most * (s.end - s.begin), GRADED);
    Neuron<NV> neuron(s, image, g);
    const float* weight = s.weight + int64_t(g) * (s.rows + 1) * s.tile;
    const float* bias = s.bias + g * (s.bias_step ? s.pixels() * s.tile : s.tile);
    for (int y = 0; y < s.height; y++)
        for (int x = 0; x < s.width; x++) {
            const int64_t p = int64_t(y) * s.width + x;
            const float* base = bias + p * s.bias_step;
            for (View& view : views) view.look(y, x, view.k.low[g]);
            list.size = 0;
            for (int t = s.begin; t < s.end; t++) {
                for (const View& view : views) collect<GRADED>(view, t, view.k.low[g], list);
                fill_up<GRADED>(list, s.rows);
                ends[t] = list.size;
            }
            for (int t = s.begin, from = 0; t < s.end; from = ends[t++]) {
                vec acc[NV];
                alignas(64) float current[NV * LANES];
#pragma GCC unroll 8
                for (int v = 0; v < NV; v++) acc[v] = load(base + v * LANES);
                sum_rows<NV, GRADED>(acc, weight, list.rows.data() + from, list.values.data() + from, ends[t] - from);
#pragma GCC unroll 8
                for (int v = 0; v < NV; v++) store(current + v * LANES, acc[v]);
                if (s.shortcuts) add_shortcuts(s, image, g, y, x, t, current);
                advance<Neuron<NV>, NV>(neuron, current, p, 1, x, t);
            }
        }
}

// Currents that lie in memory (a constant, or a dense convolution's result) go straight to the neurons.
// Loop order: row -> step -> pixel: a row's state stays in L1, and neighbouring pixels hide each other's latency.
template <template <int> class Neuron, int NV, bool>
void scan(const Stage& s, int image, int g) {
    static thread_local std::vector<float> row;
    Neuron<NV> neuron(s, image, g);
    const int lanes = s.lanes(g);
    const bool whole = s.channels == s.tile;
    if (row.size() < size_t(s.width) * s.tile) row.resize(size_t(s.width) * s.tile);
    for (int y = 0; y < s.height; y++)
        for (int t = s.begin; t < s.end; t++) {
            const int64_t p = int64_t(y) * s.width;
            const float* from = s.current + (t - s.begin) * s.current_time + (image * s.pixels() + p) * s.channels + g * s.tile;
            for (int x = 0; !whole && x < s.width; x++)
                memcpy(row.data() + x * s.tile, from + int64_t(x) * s.channels, lanes * sizeof(float));
            advance<Neuron<NV>, NV>(neuron, whole ? from : row.data(), p, s.width, 0, t);
        }
}
