// What decoding needs beyond fast_encode.cpp: a causal convolution by Winograd's F(4x4, 3x3), a quarter of the products;
// and a spatial 2x upsampling (nearest) folded into the 3x3 convolution after it.
#include "fast_encode.cpp"
#include <algorithm>
typedef __m256 V;
static inline V add(V a, V b) { return _mm256_add_ps(a, b); }
static inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
static inline V fma(float s, V a, V b) { return _mm256_fmadd_ps(_mm256_set1_ps(s), a, b); }
static inline V pair(const float* lo, const float* hi) { return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(lo)), _mm_loadu_ps(hi), 1); }
// In either half of the vectors: 4x4 transposed.
static inline void turn(V a, V b, V c, V d, V* o) {
  const V p = _mm256_unpacklo_ps(a, b), q = _mm256_unpackhi_ps(a, b), r = _mm256_unpacklo_ps(c, d), s = _mm256_unpackhi_ps(c, d);
  o[0] = _mm256_shuffle_ps(p, r, 0x44); o[1] = _mm256_shuffle_ps(p, r, 0xEE);
  o[2] = _mm256_shuffle_ps(q, s, 0x44); o[3] = _mm256_shuffle_ps(q, s, 0xEE);
}
// Six values in a row (`step` apart) to six, and six to four.
static inline void into(const V* d, int step, V* o, int ostep) {
  const V d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
  const V a = fma(-4.f, d2, d4), b = fma(-4.f, d1, d3), c = sub(d4, d2), e = sub(d3, d1);
  o[0] = fma(4.f, d0, fma(-5.f, d2, d4));
  o[ostep] = add(a, b); o[2 * ostep] = sub(a, b);
  o[3 * ostep] = fma(2.f, e, c); o[4 * ostep] = fma(-2.f, e, c);
  o[5 * ostep] = fma(4.f, d1, fma(-5.f, d3, d5));
}
static inline void outof(const float* m, int64_t step, V* o, int ostep) {
  const V m0 = _mm256_loadu_ps(m), m1 = _mm256_loadu_ps(m + step), m2 = _mm256_loadu_ps(m + 2 * step);
  const V m3 = _mm256_loadu_ps(m + 3 * step), m4 = _mm256_loadu_ps(m + 4 * step), m5 = _mm256_loadu_ps(m + 5 * step);
  const V a = add(m1, m2), b = sub(m1, m2), c = add(m3, m4), d = sub(m3, m4);
  o[0] = add(m0, add(a, c)); o[ostep] = fma(2.f, d, b);
  o[2 * ostep] = fma(4.f, c, a); o[3 * ostep] = add(fma(8.f, d, b), m5);
}
// As pad_frame, of rows y0 - 1 to y0 + rows alone; p [C,rows+2,W+2] is not written where they are outside of the frame.
static void pad_rows(const float* x, const float* gamma, float* p, int C, int H, int W, int y0, int rows) {
  const int S = W + 2, plane = H * W, big = (rows + 2) * S;
  for (int i = y0 ? 0 : 1; i < rows + 2 && y0 + i <= H; i++)
    for (int c0 = 0; c0 < W; c0 += 8) {
      const float* in = x + (y0 + i - 1) * W + c0;
      float* out = p + i * S + 1 + c0;
      V r = _mm256_setzero_ps();
      if (gamma) {
        for (int c = 0; c < C; c++) { const V v = _mm256_loadu_ps(in + c * plane); r = _mm256_fmadd_ps(v, v, r); }
        r = add(_mm256_div_ps(r, _mm256_set1_ps((float)C)), _mm256_set1_ps(1e-12f));
        r = _mm256_div_ps(_mm256_set1_ps(1.f), _mm256_sqrt_ps(r));
      }
      for (int c = 0; c < C; c++) {
        V v = _mm256_loadu_ps(in + c * plane);
        if (gamma) {
          v = _mm256_mul_ps(_mm256_mul_ps(v, r), _mm256_set1_ps(gamma[c]));
          v = _mm256_div_ps(v, add(_mm256_set1_ps(1.f), exp8(sub(_mm256_setzero_ps(), v))));
        }
        _mm256_storeu_ps(out + c * big, v);
      }
    }
}
extern "C" {
// causal of fast_encode.cpp where W is a multiple of 16 and H * W of 256. u [36][Co/4][3 frames][C][4]: G w G'.
// Tiles of 4x4 pixels, numbered row by row, are taken 16 at once, as two vectors; four of them always are side by side.
void tiled(const float* x, const float* gamma, const float* u, const float* bias, const float* res, float* out,
           int T, int C, int Co, int H, int W) {
  const int S = W + 2, plane = H * W, across = W / 16;
  int groups = plane / 256, bands = 1;  // as many bands of rows, one after another, as let three frames stay in the L2
  while (groups % 2 == 0 && (groups / 2 * 256) % (4 * W) == 0 && groups * C > 32) { groups /= 2; bands *= 2; }
  const int high = H / bands, big = (high + 2) * S;
  const int64_t ring_f = C * 16 + 16, made_f = Co * 16 + 16;  // no power of two, for the L1's sake
  const int64_t size = groups * 36 * ring_f;
  std::vector<float> p((int64_t)C * big + 16, 0.f), ring(3 * size), made(36 * made_f);
  for (int n = 0; n < bands * T; n++) {
    const int t = n % T, y0 = n / T * high;
    if (!t) std::fill(p.begin(), p.end(), 0.f);
    pad_rows(x + (int64_t)t * C * plane, gamma, p.data(), C, H, W, y0, high);
    float* into_ring = ring.data() + (t % 3) * size;
    for (int g = 0; g < groups; g++)
      for (int half = 0; half < 2; half++) {
        const int q = 4 * g + 2 * half, r = q + 1;
        const int lo = (q / across) * 4 * S + (q % across) * 16, hi = (r / across) * 4 * S + (r % across) * 16;
        for (int c = 0; c < C; c++) {
          V rows[36], all[36];
          for (int i = 0; i < 6; i++) {
            const float *a = p.data() + (int64_t)c * big + lo + i * S, *b = p.data() + (int64_t)c * big + hi + i * S;
            const V v1 = pair(a + 4, b + 4), v2 = pair(a + 8, b + 8), v3 = pair(a + 12, b + 12);
            const V v4 = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_castpd_ps(_mm_load_sd((const double*)(a + 16)))), _mm_castpd_ps(_mm_load_sd((const double*)(b + 16))), 1);
            V d[6];
            turn(pair(a, b), v1, v2, v3, d);
            const V m = _mm256_unpacklo_ps(v1, v2), n = _mm256_unpacklo_ps(v3, v4);
            d[4] = _mm256_shuffle_ps(m, n, 0x44); d[5] = _mm256_shuffle_ps(m, n, 0xEE);
            into(d, 1, rows + 6 * i, 1);
          }
          for (int j = 0; j < 6; j++) into(rows + j, 6, all + j, 6);
          float* to = into_ring + g * 36 * ring_f + c * 16 + 8 * half;
          for (int f = 0; f < 36; f++) _mm256_storeu_ps(to + f * ring_f, all[f]);
        }
      }
    for (int g = 0; g < groups; g++) {
      for (int f = 0; f < 36; f++)
        for (int o = 0; o < Co; o += 4) {
          V a0 = _mm256_setzero_ps(), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
          for (int d = t < 2 ? 2 - t : 0; d < 3; d++) {
            const float* v = ring.data() + ((t + 1 + d) % 3) * size + (g * 36 + f) * ring_f;
            const float* w = u + (((int64_t)f * Co + o) * 3 + 4 * d) * C;
            for (int c = 0; c < C; c++, v += 16, w += 4) {
              const V m = _mm256_loadu_ps(v), n = _mm256_loadu_ps(v + 8);
              V s = _mm256_broadcast_ss(w);
              a0 = _mm256_fmadd_ps(s, m, a0); b0 = _mm256_fmadd_ps(s, n, b0);
              s = _mm256_broadcast_ss(w + 1);
              a1 = _mm256_fmadd_ps(s, m, a1); b1 = _mm256_fmadd_ps(s, n, b1);
              s = _mm256_broadcast_ss(w + 2);
              a2 = _mm256_fmadd_ps(s, m, a2); b2 = _mm256_fmadd_ps(s, n, b2);
              s = _mm256_broadcast_ss(w + 3);
              a3 = _mm256_fmadd_ps(s, m, a3); b3 = _mm256_fmadd_ps(s, n, b3);
            }
          }
          float* to = made.data() + f * made_f + o * 16;
          _mm256_storeu_ps(to, a0); _mm256_storeu_ps(to + 8, b0); _mm256_storeu_ps(to + 16, a1); _mm256_storeu_ps(to + 24, b1);
          _mm256_storeu_ps(to + 32, a2); _mm256_storeu_ps(to + 40, b2); _mm256_storeu_ps(to + 48, a3); _mm256_storeu_ps(to + 56, b3);
        }
      for (int half = 0; half < 2; half++) {
        const int q = 4 * g + 2 * half, r = q + 1;
        const int lo = (q / across) * 4 * W + (q % across) * 16, hi = (r / across) * 4 * W + (r % across) * 16;
        for (int o = 0; o < Co; o++) {
          V columns[24];
          for (int j = 0; j < 6; j++) outof(made.data() + j * made_f + o * 16 + 8 * half, 6 * made_f, columns + j, 6);
          const int64_t at = ((int64_t)t * Co + o) * plane + y0 * W;
          const V b = _mm256_set1_ps(bias[o]);
          for (int i = 0; i < 4; i++) {
            V y[4], z[4];
            outof((const float*)(columns + 6 * i), 8, y, 1);
            turn(y[0], y[1], y[2], y[3], z);
            for (int k = 0; k < 4; k++) {
              const int64_t at_lo = at + lo + i * W + 4 * k, at_hi = at + hi + i * W + 4 * k;
              V s = add(z[k], b);
              if (res) s = add(s, pair(res + at_lo, res + at_hi));
              _mm_storeu_ps(out + at_lo, _mm256_castps256_ps128(s)); _mm_storeu_ps(out + at_hi, _mm256_extractf128_ps(s, 1));
            }
          }
        }
      }
    }
  }
}
// x [T,C,H,W] -> out [T,Co,2H,2W]. w [4][Co/4][C*4][4]: for each parity (y, x) of an output pixel the 3x3 taps summed
// to the 2x2 pixels of x that they fall on, in the order c, y, x.
void grow(const float* x, const float* w, const float* bias, float* out, int T, int C, int Co, int H, int W) {
  const int S = W + 2, big = (H + 2) * S, plane = H * W;
  std::vector<float> p((int64_t)C * big + 16, 0.f), part((int64_t)4 * Co * plane);
  std::vector<int64_t> off[4];
  for (int q = 0; q < 4; q++)
    for (int c = 0; c < C; c++)
      for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) off[q].push_back((int64_t)c * big + (i + q / 2) * S + j + q % 2);
  for (int t = 0; t < T; t++) {
    pad_frame(x + (int64_t)t * C * plane, nullptr, p.data(), C, H, W);
    for (int q = 0; q < 4; q++)
      frame_conv(p.data(), off[q].data(), C * 4, w + (int64_t)q * Co * C * 4, bias, nullptr, part.data() + (int64_t)q * Co * plane, Co, H, W, S);
    for (int q = 0; q < 4; q += 2)
      for (int o = 0; o < Co; o++)
        for (int y = 0; y < H; y++) {
          const float* a = part.data() + ((int64_t)q * Co + o) * plane + y * W;
          const float* b = a + (int64_t)Co * plane;
          float* to = out + (((int64_t)t * Co + o) * 2 * H + 2 * y + q / 2) * 2 * W;
          for (int c = 0; c < W; c += 8, to += 16) {
            const V v = _mm256_loadu_ps(a + c), s = _mm256_loadu_ps(b + c);
            const V even = _mm256_unpacklo_ps(v, s), odd = _mm256_unpackhi_ps(v, s);
            _mm256_storeu_ps(to, _mm256_permute2f128_ps(even, odd, 0x20));
            _mm256_storeu_ps(to + 8, _mm256_permute2f128_ps(even, odd, 0x31));
          }
        }
  }
}
}
