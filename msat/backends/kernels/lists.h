// Event lists: one stream per (image, channel block, step), pixels in raster order; plain C structs shared with Python (ctypes).
#pragma once
#include "vectors.h"

constexpr int SPARE = 80;  // entries behind each stream that whole vectors may touch; an odd number of cache lines

// An event is column << 16 | channel. Events of pixel p are start[p] .. start[p + 1]; a row of pixels is one contiguous range.
struct Stream {
    uint32_t* start;
    uint32_t* code;
    float* value;
    float* count;
};

struct Lists {
    uint32_t* start;  // [B, blocks, steps, pixels + 1 rounded up]
    uint32_t* code;   // [B, blocks, steps, pixels * block + SPARE]
    float* value;     // same; null where an event's value follows from its channel (binary spikes)
    float* count;     // same; null where every event is one spike
    int32_t channels, height, width, block, blocks, steps;

    int64_t pixels() const { return int64_t(height) * width; }
    int64_t room() const { return pixels() * block + SPARE; }
    int64_t offsets() const { return pixels() / 16 * 16 + 16; }  // an odd number of lines too: steps must not share cache sets
    Stream stream(int64_t image, int g, int t) const {
        int64_t i = (image * blocks + g) * steps + t, at = i * room();
        return {start + i * offsets(), code + at, value ? value + at : nullptr, count ? count + at : nullptr};
    }
};

// One convolution (or linear layer) over earlier events, with the average pool in front of it.
struct Term {
    Lists source;
    int32_t kernel[2], stride[2], padding[2], dilation[2];
    int32_t pool[2];     // average pool in front: its windows; the division is in the weights
    int32_t size[2];     // height and width behind that pool
    int32_t reciprocal;  // 65536 / pool[1] rounded up: column * reciprocal >> 16 is the column behind the pool
    int32_t span;        // input channels that one tile of output channels reads (all of them without groups)
    int32_t row;         // first weight row of this term
    const int32_t* low;  // [tiles]: first input channel of each tile
    const int32_t* run;  // [stride x + 1]: for scatter, where the taps of each residue of x + padding begin
};

// An identity shortcut: every stride-th pixel, channels moved up by `offset`.
struct Shortcut {
    Lists source;
    int32_t stride[2];
    int32_t offset;
    const float* scale;  // [channels] of the source: value of a binary event
};

struct Adaptive {  // MSAT's constants and switches (msat/adaptive.py)
    float tau_mp, tau_rd, alpha, k_a, inverse_k_i, inverse_C;
    int32_t dtt, det, normalised;
    int32_t filter, filter_steps;  // spike confidence: 0 off, 1 `sent`, 2 `gated`
    float drop;                    // 1 - p
    uint64_t key;
    const int64_t* samples;  // [B]
};

struct Levels {  // how other neurons than MSAT's fire (msat/neurons.py, msat/signed.py, msat/multithreshold.py)
    float cap;           // BURST, SIGNED: most spikes in a step
    int32_t gated;       // SIGNED: no more is taken back than was sent
    int32_t hard, strict;  // HARD_OR_STRICT: reset to zero; spikes above the threshold only
    int32_t as_bits;     // BURST: they are sent as a binary number, and its ones are the spikes
    int32_t members;     // LEVELS: theta, theta / 2, ...
    float up, down;      // LEVELS: shares of a member that the potential must reach above and below zero
    int32_t differential;
    const float* quiet;  // LEVELS, differential: current from zero input, [tiles, pixels or 1, tile]
    int64_t quiet_step;
};

struct Written {  // a neuron that was written from its PyTorch step (msat/backends/events_write.py)
    const float* parameter[4];  // [tiles, pixels or 1, tile] each
    int64_t parameter_step[4];
    const float* number;  // [steps, numbers]: plain numbers in the step
    int64_t numbers;
    const int32_t* course;  // [steps]: which of the step's courses
};

constexpr int STATES = 6;

struct Stage {
    int32_t batch, begin, end, first;  // steps begin .. end of a chunk before which `first` steps lie
    int32_t height, width, channels, tile, tiles;
    int32_t terms, shortcuts, rows;  // weight rows of a tile, without the zero row at its end
    const Term* term;
    const Shortcut* shortcut;
    const float* weight;  // gather [tiles, rows + 1, tile] by (ky, kx, channel); scatter [tiles, rows + 1, tile] by (channel, ky, run)
    const float* bias;    // [tiles, pixels or 1, tile]
    int64_t bias_step;    // 0 or tile: from one pixel's bias to the next
    const float* current;  // currents in memory instead of terms: [T or 1, B, pixels, channels]
    int64_t current_time;  // values from one step to the next; 0 for a constant
    const float* spikes;   // neuron PASS: spike counts beside the outputs, like `current`
    float* state[STATES];  // [B, tiles, pixels, tile] each; what they are is the neuron's affair
    const float* theta;    // [tiles, pixels or 1, tile]
    int64_t theta_step;
    Adaptive adaptive;
    Levels levels;
    Written written;
    Lists out;
    float* sink;  // neuron CURRENT: [end - begin, B, pixels, channels]

    int64_t pixels() const { return int64_t(height) * width; }
    int64_t cell(int64_t image, int g) const { return (image * tiles + g) * pixels() * tile; }
    int lanes(int g) const { return channels - g * tile < tile ? channels - g * tile : tile; }
};
