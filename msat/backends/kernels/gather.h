// Gather: currents of one tile of channels at one output pixel are summed in registers from the weight rows of active inputs.
#pragma once
#include "neurons.h"

// Per-thread lists of weight rows (and values, for graded events) of one receptive field.
struct Scratch {
    std::vector<uint32_t> rows;
    std::vector<float> values;
};

// The addresses of a source's streams for one image and all steps: [blocks, steps].
static inline std::vector<Stream> streams_of(const Lists& lists, int image) {
    std::vector<Stream> all;
    for (int g = 0; g < lists.blocks; g++)
        for (int t = 0; t < lists.steps; t++) all.push_back(lists.stream(image, g, t));
    return all;
}

// Appends events from .. to as weight rows: column / pool * span + channel + base. Whole vectors, the first unasked: short lists branch nowhere.
template <bool GRADED>
static inline int append_rows(const Stream& in, uint32_t from, uint32_t to, uint32_t reciprocal, uint32_t span, uint32_t base,
                              Scratch& out, int m) {
    uint32_t i = from;
    do {
        uvec code = load(in.code + i);
        uvec column = (code >> 16) * reciprocal >> 16;
        store(out.rows.data() + m + (i - from), column * span + (code & 0xffff) + base);
        if (GRADED) store(out.values.data() + m + (i - from), in.value ? load(in.value + i) : all(1.f));
        i += LANES;
    } while (__builtin_expect(i < to, false));
    return m + int(to - from);
}

// The same with groups: only channels low .. low + span.
template <bool GRADED>
static inline int append_group(const Stream& in, uint32_t from, uint32_t to, uint32_t reciprocal, uint32_t span, uint32_t base,
                               uint32_t low, Scratch& out, int m) {
    for (uint32_t i = from; i < to; i++) {
        uint32_t code = in.code[i], channel = code & 0xffff;
        out.rows[m] = ((code >> 16) * reciprocal >> 16) * span + channel + base;
        if (GRADED) out.values[m] = in.value ? in.value[i] : 1.f;
        m += channel - low < span;
    }
    return m;
}

// Lists the weight rows of the active inputs of output pixel (oy, ox) at step t.
template <bool GRADED>
static inline int collect(const Term& k, const std::vector<Stream>& streams, int t, int oy, int ox, int tile, Scratch& out, int m) {
    const int y0 = oy * k.stride[0] - k.padding[0], x0 = ox * k.stride[1] - k.padding[1];
    const uint32_t reciprocal = (65536 + k.pool[1] - 1) / k.pool[1], low = k.low[tile], span = k.span;
    const bool dense = k.dilation[1] == 1, grouped = k.span < k.source.channels;
    const int runs = dense ? 1 : k.kernel[1], wide = dense ? k.kernel[1] : 1;
    for (int g = 0; g < k.source.blocks; g++) {
        const Stream& in = streams[g * k.source.steps + t];
        if (grouped && (uint32_t(g * k.source.block) >= low + span || uint32_t((g + 1) * k.source.block) <= low)) continue;
        for (int ky = 0; ky < k.kernel[0]; ky++) {
            const int iy = y0 + ky * k.dilation[0];
            if (iy < 0 || iy >= k.size[0]) continue;
            for (int kx = 0; kx < runs; kx++) {
                const int ix = x0 + kx * k.dilation[1];
                const int left = ix < 0 ? 0 : ix, right = ix + wide < k.size[1] ? ix + wide : k.size[1];
                if (left >= right) continue;
                const uint32_t base = k.row + (ky * k.kernel[1] + kx - ix) * span - low;
                for (int py = 0; py < k.pool[0]; py++) {
                    const uint32_t* start = in.start + int64_t(iy * k.pool[0] + py) * k.source.width;
                    const uint32_t from = start[left * k.pool[1]], to = start[right * k.pool[1]];
                    m = grouped ? append_group<GRADED>(in, from, to, reciprocal, span, base, low, out, m)
                                : append_rows<GRADED>(in, from, to, reciprocal, span, base, out, m);
                }
            }
        }
    }
    return m;
}

// acc += sum of weight rows (times values). Few accumulators would wait for each other: narrow tiles keep several sets.
template <int NV, bool GRADED>
static inline void sum_rows(vec* acc, const float* weight, Scratch& list, int m, uint32_t zero_row) {
    constexpr int SETS = NV >= 4 ? 1 : 4 / NV, UNROLL = 4;
    vec extra[SETS][NV] = {};
    for (int i = 0; i < UNROLL; i++) list.rows[m + i] = zero_row;
    if (GRADED)
        for (int i = 0; i < UNROLL; i++) list.values[m + i] = 0.f;
    const uint32_t* rows = list.rows.data();
    const float* values = list.values.data();
#pragma GCC unroll 8
    for (int v = 0; v < NV; v++) extra[0][v] = acc[v];
    for (int i = 0; i < m; i += UNROLL) {
#pragma GCC unroll 4
        for (int u = 0; u < UNROLL; u++) {
            const float* row = weight + size_t(rows[i + u]) * (NV * LANES);
#pragma GCC unroll 8
            for (int v = 0; v < NV; v++) {
                if (GRADED)
                    extra[u % SETS][v] += load(row + v * LANES) * values[i + u];
                else
                    extra[u % SETS][v] += load(row + v * LANES);
            }
        }
    }
#pragma GCC unroll 8
    for (int v = 0; v < NV; v++) {
        acc[v] = extra[0][v];
        for (int k = 1; k < SETS; k++) acc[v] += extra[k][v];
    }
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
// recur over the steps of the chunk and come from L1, and the neurons' state stays there too.
template <template <int> class Neuron, int NV, bool GRADED>
void gather(const Stage& s, int image, int g) {
    static thread_local Scratch list;
    size_t most = 2 * SPARE;
    std::vector<std::vector<Stream>> streams;
    for (int k = 0; k < s.terms; k++) {
        const Term& term = s.term[k];
        streams.push_back(streams_of(term.source, image));
        most += size_t(term.kernel[0]) * term.kernel[1] * term.pool[0] * term.pool[1] * term.source.channels;
    }
    if (list.rows.size() < most) list.rows.resize(most);
    if (GRADED && list.values.size() < most) list.values.resize(most);
    Neuron<NV> neuron(s, image, g);
    const float* weight = s.weight + int64_t(g) * (s.rows + 1) * s.tile;
    const float* bias = s.bias + g * (s.bias_step ? s.pixels() * s.tile : s.tile);
    alignas(64) float start[NV * LANES];
    for (int y = 0; y < s.height; y++)
        for (int x = 0; x < s.width; x++) {
            const int64_t p = int64_t(y) * s.width + x;
            const float* base = bias + p * s.bias_step;
            for (int t = s.begin; t < s.end; t++) {
                const float* from = base;
                if (s.shortcuts) {
                    for (int v = 0; v < NV; v++) store(start + v * LANES, load(base + v * LANES));
                    add_shortcuts(s, image, g, y, x, t, start);
                    from = start;
                }
                int m = 0;
                for (int k = 0; k < s.terms; k++) m = collect<GRADED>(s.term[k], streams[k], t, y, x, g, list, m);
                vec acc[NV];
#pragma GCC unroll 8
                for (int v = 0; v < NV; v++) acc[v] = load(from + v * LANES);
                sum_rows<NV, GRADED>(acc, weight, list, m, s.rows);
                neuron(acc, p, x, t);
            }
        }
}

// Currents that lie in memory (a constant, or a dense convolution's result) go straight to the neurons.
template <template <int> class Neuron, int NV, bool>
void scan(const Stage& s, int image, int g) {
    Neuron<NV> neuron(s, image, g);
    const int lanes = s.lanes(g);
    for (int y = 0; y < s.height; y++)
        for (int x = 0; x < s.width; x++) {
            const int64_t p = int64_t(y) * s.width + x;
            const float* from = s.current + (image * s.pixels() + p) * s.channels + g * s.tile;
            for (int t = s.begin; t < s.end; t++) {
                const float* at = from + (t - s.begin) * s.current_time;
                vec current[NV] = {};
                if (lanes == NV * LANES)
                    for (int v = 0; v < NV; v++) current[v] = load(at + v * LANES);
                else
                    memcpy(current, at, lanes * sizeof(float));
                neuron(current, p, x, t);
            }
        }
}
