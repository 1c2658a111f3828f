// What is done to lists alone: lateral-inhibition max-pools, lists to tensors, weighted sums over events.
#pragma once
#include "gather.h"

struct Pool {
    Lists in, out;
    int32_t begin, end;
    int32_t kernel[2], stride[2], padding[2], dilation[2];
    void* account;  // [B, blocks, pixels out, block, window]: int32 spikes for binary events, float for graded
};

// S += x; out = max S; S -= out (msat/pooling.py), only where an event arrives: elsewhere max S is 0 and stays 0.
// Binary events are counted in integers, so no rounding ever sends a residue. Loop order: pixel -> step, accounts in L1.
template <class Account>
void inhibit(const Pool& q, int image, int g) {
    const int window = q.kernel[0] * q.kernel[1], block = q.out.block;
    std::vector<Stream> in, out;
    for (int t = 0; t < q.end; t++) in.push_back(q.in.stream(image, g, t)), out.push_back(q.out.stream(image, g, t));
    for (int t = q.begin; t < q.end; t++) out[t].start[0] = 0;
    std::vector<uint32_t> touched(block * window);
    std::vector<int64_t> seen(block, -1);
    for (int y = 0; y < q.out.height; y++)
        for (int x = 0; x < q.out.width; x++) {
            const int64_t p = int64_t(y) * q.out.width + x;
            Account* account = (Account*)q.account + ((int64_t(image) * q.out.blocks + g) * q.out.pixels() + p) * block * window;
            for (int t = q.begin; t < q.end; t++) {
                int hits = 0;
                for (int k = 0; k < window; k++) {
                    const int iy = y * q.stride[0] - q.padding[0] + k / q.kernel[1] * q.dilation[0];
                    const int ix = x * q.stride[1] - q.padding[1] + k % q.kernel[1] * q.dilation[1];
                    if (iy < 0 || iy >= q.in.height || ix < 0 || ix >= q.in.width) continue;
                    const uint32_t* start = in[t].start + int64_t(iy) * q.in.width + ix;
                    for (uint32_t i = start[0]; i < start[1]; i++) {
                        const uint32_t lane = (in[t].code[i] & 0xffff) - g * block;
                        account[lane * window + k] += q.in.value ? Account(in[t].value[i]) : Account(1);
                        touched[hits] = lane;
                        hits += seen[lane] != p * q.end + t;
                        seen[lane] = p * q.end + t;
                    }
                }
                uint32_t n = out[t].start[p];
                for (int h = 0; h < hits; h++) {
                    Account *cell = account + touched[h] * window, most = cell[0];
                    for (int k = 1; k < window; k++) most = cell[k] > most ? cell[k] : most;
                    if (most == 0) continue;
                    for (int k = 0; k < window; k++) cell[k] -= most;
                    out[t].code[n] = uint32_t(x) << 16 | (g * block + touched[h]);
                    if (q.out.value) out[t].value[n] = most;
                    n++;
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
