// fp32 kernels for a VAE of few channels: a causal convolution as a list of taps, norm and SiLU fused into its padding.
#include <immintrin.h>
#include <cstdint>
#include <cstring>
#include <vector>
static inline __m256 exp8(__m256 x) {
  x = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(-87.f)), _mm256_set1_ps(88.f));
  __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504088896341f)), 8);
  x = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  x = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), x);
  __m256 y = _mm256_set1_ps(1.9875691500E-4f);
  y = _mm256_fmadd_ps(y, x, _mm256_set1_ps(1.3981999507E-3f));
  y = _mm256_fmadd_ps(y, x, _mm256_set1_ps(8.3334519073E-3f));
  y = _mm256_fmadd_ps(y, x, _mm256_set1_ps(4.1665795894E-2f));
  y = _mm256_fmadd_ps(y, x, _mm256_set1_ps(1.6666665459E-1f));
  y = _mm256_fmadd_ps(y, x, _mm256_set1_ps(5.0000001201E-1f));
  y = _mm256_add_ps(_mm256_fmadd_ps(y, _mm256_mul_ps(x, x), x), _mm256_set1_ps(1.f));
  __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(y, _mm256_castsi256_ps(e));
}
// One frame x [C,H,W] into p [C,H+2,W+2], whose borders stay zero; with gamma: RMS norm over channels and SiLU.
static void pad_frame(const float* x, const float* gamma, float* p, int C, int H, int W) {
  const int S = W + 2, plane = H * W, big = (H + 2) * S;
  for (int y = 0; y < H; y++)
    for (int c0 = 0; c0 < W; c0 += 8) {
      const float* in = x + y * W + c0;
      float* out = p + (y + 1) * S + 1 + c0;
      if (!gamma) {
        for (int c = 0; c < C; c++) _mm256_storeu_ps(out + c * big, _mm256_loadu_ps(in + c * plane));
        continue;
      }
      __m256 sum = _mm256_setzero_ps();
      for (int c = 0; c < C; c++) { __m256 v = _mm256_loadu_ps(in + c * plane); sum = _mm256_fmadd_ps(v, v, sum); }
      __m256 r = _mm256_div_ps(_mm256_set1_ps(1.f), _mm256_sqrt_ps(_mm256_add_ps(_mm256_div_ps(sum, _mm256_set1_ps((float)C)), _mm256_set1_ps(1e-12f))));
      for (int c = 0; c < C; c++) {
        __m256 v = _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(in + c * plane), r), _mm256_set1_ps(gamma[c]));
        __m256 e = exp8(_mm256_sub_ps(_mm256_setzero_ps(), v));
        _mm256_storeu_ps(out + c * big, _mm256_div_ps(v, _mm256_add_ps(_mm256_set1_ps(1.f), e)));
      }
    }
}
// w [Co/4][taps][4]; in + off[k] is tap k of the pixel at the upper left; rows `row` apart; W 8 takes two rows at once.
static void frame_conv(const float* in, const int64_t* off, int taps, const float* w, const float* bias,
                       const float* res, float* out, int Co, int H, int W, int row) {
  const int step = W == 8 ? 2 : 1, plane = H * W;
  const int64_t second = W == 8 ? row : 8;
  for (int y = 0; y < H; y += step)
    for (int o = 0; o < Co; o += 4)
      for (int c0 = 0; c0 < W; c0 += 16) {
        const float* base = in + y * row + c0;
        const float* ww = w + (int64_t)o * taps;
        __m256 a0 = _mm256_set1_ps(bias[o]), a1 = _mm256_set1_ps(bias[o + 1]), a2 = _mm256_set1_ps(bias[o + 2]), a3 = _mm256_set1_ps(bias[o + 3]);
        __m256 b0 = a0, b1 = a1, b2 = a2, b3 = a3;
        for (int k = 0; k < taps; k++, ww += 4) {
          const float* p = base + off[k];
          __m256 u = _mm256_loadu_ps(p), v = _mm256_loadu_ps(p + second);
          __m256 q = _mm256_broadcast_ss(ww);
          a0 = _mm256_fmadd_ps(q, u, a0); b0 = _mm256_fmadd_ps(q, v, b0);
          q = _mm256_broadcast_ss(ww + 1);
          a1 = _mm256_fmadd_ps(q, u, a1); b1 = _mm256_fmadd_ps(q, v, b1);
          q = _mm256_broadcast_ss(ww + 2);
          a2 = _mm256_fmadd_ps(q, u, a2); b2 = _mm256_fmadd_ps(q, v, b2);
          q = _mm256_broadcast_ss(ww + 3);
          a3 = _mm256_fmadd_ps(q, u, a3); b3 = _mm256_fmadd_ps(q, v, b3);
        }
        const int64_t at = (int64_t)o * plane + y * W + c0;
        __m256 a[4] = {a0, a1, a2, a3}, b[4] = {b0, b1, b2, b3};
        for (int i = 0; i < 4; i++) {
          const int64_t j = at + (int64_t)i * plane;
          if (res) { a[i] = _mm256_add_ps(a[i], _mm256_loadu_ps(res + j)); b[i] = _mm256_add_ps(b[i], _mm256_loadu_ps(res + j + 8)); }
          _mm256_storeu_ps(out + j, a[i]); _mm256_storeu_ps(out + j + 8, b[i]);
        }
      }
}
extern "C" {
// Causal 3x3x3: x [T,C,H,W] -> out [T,Co,H,W]; taps in the order c, t, y, x.
void causal(const float* x, const float* gamma, const float* w, const float* bias, const float* res, float* out,
            int T, int C, int Co, int H, int W) {
  const int S = W + 2, big = (H + 2) * S;
  const int64_t size = (int64_t)C * big;
  std::vector<float> ring(3 * size + 16, 0.f);
  std::vector<int64_t> off(C * 27);
  for (int t = 0; t < T; t++) {
    pad_frame(x + (int64_t)t * C * H * W, gamma, ring.data() + (t % 3) * size, C, H, W);
    int k = 0;
    for (int c = 0; c < C; c++)
      for (int d = 0; d < 3; d++)
        for (int i = 0; i < 3; i++)
          for (int j = 0; j < 3; j++) off[k++] = ((t + 1 + d) % 3) * size + (int64_t)c * big + i * S + j;
    const int64_t o = (int64_t)t * Co * H * W;
    frame_conv(ring.data(), off.data(), k, w, bias, res ? res + o : nullptr, out + o, Co, H, W, S);
  }
}
// 1x1x1, or 3 frames at a stride of 2 (kt = 3): x [T,C,H,W] -> out [(T-kt)/stride+1,Co,H,W]; taps in the order c, t.
void pointwise(const float* x, const float* w, const float* bias, float* out, int T, int C, int Co, int H, int W, int kt, int stride) {
  std::vector<int64_t> off;
  const int64_t frame = (int64_t)C * H * W;
  for (int c = 0; c < C; c++) for (int d = 0; d < kt; d++) off.push_back(d * frame + (int64_t)c * H * W);
  for (int t = 0, o = 0; t + kt <= T; t += stride, o++)
    frame_conv(x + t * frame, off.data(), C * kt, w, bias, nullptr, out + (int64_t)o * Co * H * W, Co, H, W, W);
}
// 3x3 at a stride of 2, zeros to the right and below: x [T,C,H,W] -> out [T,Co,H/2,W/2]; taps in the order c, y, x.
void halve(const float* x, const float* w, const float* bias, float* out, int T, int C, int Co, int H, int W) {
  const int h = H / 2, v = W / 2, S = v + 8, part = (h + 1) * S;
  std::vector<float> p((int64_t)C * 4 * part + 16, 0.f);
  std::vector<int64_t> off;
  for (int c = 0; c < C; c++)
    for (int i = 0; i < 3; i++)
      for (int j = 0; j < 3; j++) off.push_back((int64_t)(c * 4 + (i % 2) * 2 + j % 2) * part + (i / 2) * S + j / 2);
  for (int t = 0; t < T; t++) {
    for (int c = 0; c < C; c++)
      for (int y = 0; y < H; y++) {
        const float* in = x + ((int64_t)(t * C + c) * H + y) * W;
        float* even = p.data() + (int64_t)(c * 4 + (y % 2) * 2) * part + (y / 2) * S;
        float* odd = even + part;
        for (int i = 0; i < v; i++) { even[i] = in[2 * i]; odd[i] = in[2 * i + 1]; }
      }
    frame_conv(p.data(), off.data(), C * 9, w, bias, nullptr, out + (int64_t)t * Co * h * v, Co, h, v, S);
  }
}
}
