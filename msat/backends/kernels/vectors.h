// Vectors of the machine's own width (AVX-512, AVX2, NEON), from the compiler's vector types; exp and softplus on them.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512DQ__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
typedef float vec_any __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t uvec_any __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline vec load(const float* p) { return *(const vec_any*)p; }
static inline void store(float* p, vec x) { *(vec_any*)p = x; }
static inline uvec load(const uint32_t* p) { return *(const uvec_any*)p; }
static inline void store(uint32_t* p, uvec x) { *(uvec_any*)p = x; }
static inline uvec count_up() {
    uvec n;
    for (int lane = 0; lane < LANES; lane++) n[lane] = lane;
    return n;
}
static inline vec all(float x) { return x - vec{}; }
static inline vec larger(vec a, vec b) { return a > b ? a : b; }
static inline vec smaller(vec a, vec b) { return a < b ? a : b; }

// Bits of the first `left` lanes.
static inline uint32_t within(int left) { return left >= LANES ? (1u << LANES) - 1 : left <= 0 ? 0 : (1u << left) - 1; }

// The instruction set is named in these two functions only.
// One bit per lane of a comparison.
static inline uint32_t bits(ivec yes) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    return _mm512_movepi32_mask((__m512i)yes);
#elif defined(__AVX2__)
    return _mm256_movemask_ps((__m256)yes);
#else
    uint32_t mask = 0;
    for (int lane = 0; lane < LANES; lane++) mask |= uint32_t(yes[lane] & 1) << lane;
    return mask;
#endif
}

// Writes the lanes whose bits are set side by side and returns how many; up to LANES values behind them are overwritten.
template <class V, class T>
static inline int compress(T* to, uint32_t mask, V values) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32((__mmask16)mask, (__m512i)values));
    return __builtin_popcount(mask);
#else
    int n = 0;
    for (; mask; mask &= mask - 1) to[n++] = values[__builtin_ctz(mask)];
    return n;
#endif
}

static inline ivec lanes_of(uint32_t mask) {
    ivec yes;
    for (int lane = 0; lane < LANES; lane++) yes[lane] = -int32_t(mask >> lane & 1);
    return yes;
}

// The functions below take several vectors at once and go through their formulas side by side: one vector alone would wait
// for the result of every operation.
#define EACH _Pragma("GCC unroll 4") for (int k = 0; k < K; k++)

// exp(x), relative error 0.9e-7: 2^n times a polynomial of degree 6 in the remainder (Cephes expf); saturates beyond +-87.
template <int K>
static inline void exp(vec (&x)[K]) {
    const vec magic = all(12582912.f);  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    vec shifted[K], r[K], p[K];
    EACH x[k] = smaller(larger(x[k], all(-87.f)), all(87.f));
    EACH shifted[k] = x[k] * 1.44269504f + magic;
    EACH r[k] = x[k] - (shifted[k] - magic) * 0.693359375f;
    EACH r[k] = r[k] + (shifted[k] - magic) * 2.12194440e-4f;
    EACH p[k] = r[k] * 1.9875691500e-4f + 1.3981999507e-3f;
    EACH p[k] = p[k] * r[k] + 8.3334519073e-3f;
    EACH p[k] = p[k] * r[k] + 4.1665795894e-2f;
    EACH p[k] = p[k] * r[k] + 1.6666665459e-1f;
    EACH p[k] = p[k] * r[k] + 5.0000001201e-1f;
    EACH p[k] = p[k] * r[k] * r[k] + r[k] + 1.f;
    EACH x[k] = p[k] * (vec)(((ivec)shifted[k] - (ivec)magic + 127) << 23);
}

// ln(1 + exp(z)) = max(z, 0) + ln(1 + u), u = exp(-|z|), relative error 1.3e-7. With s = u / (2 + u) and
// 2 atanh(s) = 2s + sR, ln(1 + u) = u - s (u - R): what is rounded in s and R counts a third at most (fdlibm's log).
template <int K>
static inline void softplus(vec (&z)[K]) {
    vec u[K], s[K], r[K];
    EACH u[k] = z[k] > 0.f ? -z[k] : z[k];
    exp(u);
    EACH s[k] = u[k] > 1e-8f ? u[k] : vec{};  // below it ln(1 + u) rounds to u, and s * s could be subnormal: 18 times as slow
    EACH s[k] = s[k] / (s[k] + 2.f);
    EACH r[k] = s[k] * s[k] * (2.f / 13) + 2.f / 11;
    EACH r[k] = r[k] * (s[k] * s[k]) + 2.f / 9;
    EACH r[k] = r[k] * (s[k] * s[k]) + 2.f / 7;
    EACH r[k] = r[k] * (s[k] * s[k]) + 2.f / 5;
    EACH r[k] = r[k] * (s[k] * s[k]) + 2.f / 3;
    EACH z[k] = larger(z[k], vec{}) + (u[k] - s[k] * (u[k] - r[k] * (s[k] * s[k])));
}

// For neurons that are written from their PyTorch step, one vector each: NaN, infinities and zeros as PyTorch has them.
static inline vec exponential(vec x) {
    vec y[1] = {x};
    exp(y);
    y[0] = x < -103.98f ? vec{} : x > 88.73f ? all(INFINITY) : y[0];
    return x == x ? y[0] : x;
}
static inline vec soft_plus(vec x) {
    vec y[1] = {x};
    softplus(y);
    y[0] = x < -103.98f ? vec{} : y[0];
    return x == x ? y[0] : x;
}
static inline vec sigmoid(vec x) { return 1.f / (1.f + exponential(-x)); }
static inline vec number_of(ivec yes) { return yes ? all(1.f) : vec{}; }
static inline vec greater_of(vec a, vec b) { return a != a ? a : b != b ? b : larger(a, b); }
static inline vec lesser_of(vec a, vec b) { return a != a ? a : b != b ? b : smaller(a, b); }
static inline vec remainder_of(vec a, vec b) {
    vec y;
    for (int lane = 0; lane < LANES; lane++) {
        const float r = __builtin_fmodf(a[lane], b[lane]);
        y[lane] = r != 0 && (b[lane] < 0) != (r < 0) ? r + b[lane] : r;
    }
    return y;
}
#define LANEWISE(name, function)                                              \
    static inline vec name(vec x) {                                           \
        vec y;                                                                \
        for (int lane = 0; lane < LANES; lane++) y[lane] = function(x[lane]); \
        return y;                                                             \
    }
LANEWISE(rounded_down, __builtin_floorf)
LANEWISE(towards_zero, __builtin_truncf)
LANEWISE(nearest, __builtin_rintf)
LANEWISE(root, __builtin_sqrtf)
LANEWISE(magnitude, __builtin_fabsf)
