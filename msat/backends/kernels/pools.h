// Max-pools over lists and over currents in memory; what else is done to lists alone: to tensors, weighted sums over events.
#pragma once
#include <type_traits>

#include "gather.h"

struct Pool {
    Lists in, out;
    int32_t begin, end;
    int32_t kernel[2], stride[2], padding[2], dilation[2];
    void* account;  // [B, blocks, pixels out, window, block]: int32 for events that are whole numbers of spikes, float for graded
    const float* unit;  // [blocks * block]: value of one spike, where an event may be several; else null
    // Over currents only:
    const float* current;  // [T or 1, B, pixels in, channels]
    int64_t current_time;  // values from one step to the next; 0 for a constant
    int32_t batch, first;  // inputs; steps done before the chunk
    int32_t forgets;       // the maximum of each step's currents alone
    float *e_in, *e_out;   // differential: running estimates, [B, blocks, pixels out, window, block] and without the window; else null
    const float* quiet;    // current from zero input, [blocks, pixels in or 1, block]
    int64_t quiet_step;

    // The pixels of the window at (y, x); -1 outside the map.
    void look(int y, int x, std::vector<int64_t>& places) const {
        for (size_t k = 0; k < places.size(); k++) {
            const int iy = y * stride[0] - padding[0] + int(k) / kernel[1] * dilation[0];
            const int ix = x * stride[1] - padding[1] + int(k) % kernel[1] * dilation[1];
            const bool inside = iy >= 0 && iy < in.height && ix >= 0 && ix < in.width;
            places[k] = inside ? int64_t(iy) * in.width + ix : -1;
        }
    }
};

template <class Account> struct Vector { typedef vec type; };
template <> struct Vector<int32_t> { typedef ivec type; };

// One window of one tile of channels: accounts [window, block], streams of the input and output at one step.
template <class Account>
struct Window {
    typedef typename Vector<Account>::type vector;
    Account* account;
    int window, block;
    uint32_t base;
    const float* unit;

    Account value(const Stream& in, uint32_t i) const {
        if (std::is_same<Account, float>::value) return Account(in.value[i]);
        return in.count ? Account(in.count[i]) : Account(1);
    }
    vector at(int k, int lane) const {
        vector x;
        memcpy(&x, account + k * block + lane, sizeof(x));
        return x;
    }

    // S += x for one place of the window.
    void add(const Stream& in, int k, uint32_t from, uint32_t to) const {
        for (uint32_t i = from; i < to; i++) account[k * block + (in.code[i] & 0xffff) - base] += value(in, i);
    }

    // out = max S; S -= out for all channels; appends the events and returns where the next goes.
    uint32_t send(const Stream& out, uint32_t n, int x) const {
        uvec code = count_up() + (uint32_t(x) << 16 | base);
        for (int lane = 0; lane < block; lane += LANES, code += LANES) {
            vector most = at(0, lane);
            for (int k = 1; k < window; k++) most = at(k, lane) > most ? at(k, lane) : most;
            const uint32_t fired = bits(most != 0);
            if (!fired) continue;
            for (int k = 0; k < window; k++) {
                vector left = at(k, lane) - most;
                memcpy(account + k * block + lane, &left, sizeof(left));
            }
            if (unit) {
                vec spikes = __builtin_convertvector(most, vec);
                compress(out.count + n, fired, spikes);
                compress(out.value + n, fired, spikes * load(unit + base + lane));
            } else if (out.value)
                compress(out.value + n, fired, most);
            n += compress(out.code + n, fired, code);
        }
        return n;
    }
};

// S += x; out = max S; S -= out (msat/pooling.py), only where an event arrives: elsewhere max S is 0 and stays 0.
// Whole numbers of spikes are counted in integers, so no rounding ever sends a residue. Loop order: pixel -> step, accounts in L1.
template <class Account>
void inhibit(const Pool& q, int image, int g) {
    const int window = q.kernel[0] * q.kernel[1], block = q.out.block;
    std::vector<Stream> in, out;
    for (int t = 0; t < q.end; t++) in.push_back(q.in.stream(image, g, t)), out.push_back(q.out.stream(image, g, t));
    for (int t = q.begin; t < q.end; t++) out[t].start[0] = 0;
    std::vector<int64_t> places(window);
    const int64_t first = (int64_t(image) * q.out.blocks + g) * q.out.pixels();
    for (int y = 0; y < q.out.height; y++)
        for (int x = 0; x < q.out.width; x++) {
            const int64_t p = int64_t(y) * q.out.width + x;
            const Window<Account> cell{(Account*)q.account + (first + p) * block * window, window, block, uint32_t(g * block), q.unit};
            q.look(y, x, places);
            for (int t = q.begin; t < q.end; t++) {
                uint32_t events = 0;
                for (int k = 0; k < window; k++) {
                    if (places[k] < 0) continue;
                    const uint32_t* start = in[t].start + places[k];
                    cell.add(in[t], k, start[0], start[1]);
                    events += start[1] - start[0];
                }
                const uint32_t n = out[t].start[p];
                out[t].start[p + 1] = events ? cell.send(out[t], n, x) : n;
            }
        }
}

// One window of currents: LANES of its channels at `lane` of the block, account and estimates behind each other by place.
struct CurrentWindow {
    const Pool& q;
    const std::vector<int64_t>& places;
    float *account, *e_in, *e_out;
    int image, g, left;  // channels of the map from the block's first on

    vec arriving(int t, int64_t place, int lane) const {
        const int block = q.out.block, channels = q.in.channels;
        const float* from = q.current + (t - q.begin) * q.current_time + (image * q.in.pixels() + place) * channels + g * block + lane;
        if (left - lane >= LANES) return load(from);
        vec x = {};
        if (left > lane) memcpy(&x, from, (left - lane) * sizeof(float));
        return x;
    }
    // x - b + e_in, and the estimate's share of the change (msat/coding.py).
    vec estimated(vec x, int64_t place, int at, int lane, float step) const {
        const int64_t pixels = q.quiet_step ? q.in.pixels() : 1;
        const vec change = x - load(q.quiet + (g * pixels) * q.out.block + place * q.quiet_step + lane), before = load(e_in + at);
        store(e_in + at, before + change / step);
        return change + before;
    }
    // S += x; out = max S; S -= out.
    vec send(int t, int lane, float step) const {
        vec most = all(-INFINITY);
        for (size_t k = 0; k < places.size(); k++) {
            if (places[k] < 0) continue;
            const int at = int(k) * q.out.block + lane;
            vec x = arriving(t, places[k], lane);
            if (e_in) x = estimated(x, places[k], at, lane, step);
            if (!q.forgets) x = load(account + at) + x, store(account + at, x);
            most = larger(x, most);
        }
        for (size_t k = 0; k < places.size() && !q.forgets; k++)
            store(account + k * q.out.block + lane, load(account + k * q.out.block + lane) - most);
        if (!e_in) return most;
        const vec before = load(e_out + lane), sent = most - before;
        store(e_out + lane, before + sent / step);
        return sent;
    }
};

// Pools currents, which every window gets at every step. Loop order: pixel -> step, accounts in L1.
static void inhibit_currents(const Pool& q, int image, int g) {
    const int window = q.kernel[0] * q.kernel[1], block = q.out.block;
    std::vector<Stream> out;
    for (int t = 0; t < q.end; t++) out.push_back(q.out.stream(image, g, t));
    for (int t = q.begin; t < q.end; t++) out[t].start[0] = 0;
    std::vector<int64_t> places(window);
    const int left = q.out.channels - g * block;
    for (int y = 0; y < q.out.height; y++)
        for (int x = 0; x < q.out.width; x++) {
            const int64_t p = int64_t(y) * q.out.width + x, cell = (int64_t(image) * q.out.blocks + g) * q.out.pixels() + p;
            q.look(y, x, places);
            const CurrentWindow w{q, places, (float*)q.account + cell * block * window,
                                  q.e_in ? q.e_in + cell * block * window : nullptr, q.e_in ? q.e_out + cell * block : nullptr, image, g, left};
            for (int t = q.begin; t < q.end; t++) {
                uint32_t n = out[t].start[p];
                uvec code = count_up() + (uint32_t(x) << 16 | uint32_t(g * block));
                for (int lane = 0; lane < block && lane < left; lane += LANES, code += LANES) {
                    const vec sent = w.send(t, lane, float(q.first + t + 1));
                    const uint32_t fired = bits(sent != 0.f) & within(left - lane);
                    compress(out[t].value + n, fired, sent);
                    n += compress(out[t].code + n, fired, code);
                }
                out[t].start[p + 1] = n;
            }
        }
}

// Lists of steps begin .. end to frames [end - begin, B, pixels, channels]; `scale` [channels] gives the value of a binary event.
static void densify(const Lists& in, int begin, int end, int batch, int image, const float* scale, float* frames) {
    const int64_t size = in.pixels() * in.channels;
    for (int t = begin; t < end; t++) {
        float* frame = frames + ((t - begin) * int64_t(batch) + image) * size;
        memset(frame, 0, size * sizeof(float));
        for (int g = 0; g < in.blocks; g++) {
            const Stream s = in.stream(image, g, t);
            for (int y = 0; y < in.height; y++) {
                float* row = frame + int64_t(y) * in.width * in.channels;
                for (uint32_t i = s.start[y * in.width]; i < s.start[(y + 1) * in.width]; i++) {
                    const uint32_t code = s.code[i], channel = code & 0xffff;
                    row[int64_t(code >> 16) * in.channels + channel] = s.value ? s.value[i] : scale[channel];
                }
            }
        }
    }
}

// Sums over steps begin .. end, for each neuron [B, pixels, channels]: weight[t] x output, and |spikes|.
static void tally(const Lists& in, int begin, int end, int image, const float* scale, const float* weight, float* outputs, float* spikes) {
    const int64_t size = in.pixels() * in.channels;
    float *sent = outputs + image * size, *fired = spikes + image * size;
    for (int t = begin; t < end; t++)
        for (int g = 0; g < in.blocks; g++) {
            const Stream s = in.stream(image, g, t);
            for (int y = 0; y < in.height; y++) {
                const int64_t row = int64_t(y) * in.width * in.channels;
                for (uint32_t i = s.start[y * in.width]; i < s.start[(y + 1) * in.width]; i++) {
                    const uint32_t code = s.code[i], channel = code & 0xffff;
                    const int64_t at = row + int64_t(code >> 16) * in.channels + channel;
                    sent[at] += weight[t] * (s.value ? s.value[i] : scale[channel]);
                    fired[at] += !s.count ? 1 : s.count[i] < 0 ? -s.count[i] : s.count[i];
                }
            }
        }
}

// Sums over one image's events, for each step: weight x spikes and weight x events. weight: [pixels] or [pixels, channels].
static void weigh(const Lists& in, int image, const double* weight, bool by_channel, double* spikes, double* events) {
    for (int t = 0; t < in.steps; t++) {
        double sent = 0, counted = 0;
        for (int g = 0; g < in.blocks; g++) {
            const Stream s = in.stream(image, g, t);
            for (int64_t p = 0; p < in.pixels(); p++) {
                const uint32_t from = s.start[p], to = s.start[p + 1];
                if (!by_channel && !s.count) {
                    sent += weight[p] * (to - from);
                    continue;
                }
                for (uint32_t i = from; i < to; i++) {
                    const double w = by_channel ? weight[p * in.channels + (s.code[i] & 0xffff)] : weight[p];
                    if (!s.count || s.count[i] != 0) sent += w;  // an output may repeat what no spike announces (TSC)
                    if (s.count) counted += w * (s.count[i] < 0 ? -s.count[i] : s.count[i]);
                }
            }
        }
        events[t] = sent;
        spikes[t] = in.count ? counted : sent;
    }
}
