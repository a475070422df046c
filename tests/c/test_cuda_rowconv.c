/* tests/c/test_cuda_rowconv.c -- the CUDA kernels' bodies on the CPU, third part: convolutions of rows, against sums in
 * float64. TF32: 2^-10 of every operand that is cut, 2^-11 of one that is rounded. */
#include "cuda_twins.h"

static float at(const cg_rowconv *c, const float *x, size_t rb, size_t ch, size_t h, size_t w) { /* h, w may wrap */
    return h < c->height && w < c->width ? x[((rb * c->in + ch) * c->height + h) * c->width + w] : 0.0f;
}

/* Everything at once: y with bias, gx, gw; rows of weights are ldw apart. */
static void test_rowconv(cg_rowconv c, size_t pad) {
    const size_t taps = c.kh * c.kw, oh = c.height + 2 * c.ph - c.kh + 1, ow = c.width + 2 * c.pw - c.kw + 1;
    const size_t size = c.out * c.in * taps, ldw = size + c.out + pad, rb = c.rows * c.batch, plane = oh * ow;
    const size_t xs = rb * c.in * c.height * c.width, ys = rb * c.out * plane;
    const cg_rowconv back = {
        c.rows, c.batch, c.out, c.in, oh, ow, c.kh, c.kw, c.kh - 1 - c.ph, c.kw - 1 - c.pw, c.batch * c.out * plane};
    c.ldx = c.batch * c.in * c.height * c.width;
    float *const x = numbers(xs, 1), *const w = numbers(c.rows * ldw, 2), *const gy = numbers(ys, 3);
    float *const y = numbers(ys, 4), *const gx = numbers(xs, 5), *const gw = numbers(c.rows * size, 6);
    double *const dx = array(xs, sizeof *dx), *const dw = array(c.rows * size, sizeof *dw);
    double *const bx = array(xs, sizeof *bx), *const bw = array(c.rows * size, sizeof *bw);
    memset(dx, 0, xs * sizeof *dx), memset(dw, 0, c.rows * size * sizeof *dw);
    memset(bx, 0, xs * sizeof *bx), memset(bw, 0, c.rows * size * sizeof *bw);
    size_t forward, gradient, back_forward, back_gradient;
    cg_err err;
    CHECK(cg_cuda_rowconv_work(0, &c, &forward, &gradient, &err) == CG_OK && forward > 0);
    CHECK(cg_cuda_rowconv_work(0, &back, &back_forward, &back_gradient, &err) == CG_OK && back_forward > 0);
    float *const work = array(forward + gradient + back_forward, sizeof *work);
    CHECK(cg_cuda_rowconv_f32(0, NULL, &c, 0, x, w, ldw, w + size, ldw, work, y, &err) == CG_OK);
    CHECK(cg_cuda_rowconv_f32(0, NULL, &back, 1, gy, w, ldw, NULL, 0, work, gx, &err) == CG_OK);
    CHECK(cg_cuda_rowconv_weight_f32(0, NULL, &c, gy, x, work, gw, &err) == CG_OK);
    int good = 1;
    for (size_t i = 0; i < ys; i++) { /* row, image, output, line, column */
        const size_t r = i / plane / c.out / c.batch, b = i / plane / c.out, o = i / plane % c.out;
        const size_t h = i % plane / ow, v = i % ow;
        double want = (double)w[r * ldw + size + o], bound = fabs(want);
        for (size_t k = 0; k < c.in * taps; k++) {
            const size_t ch = k / taps, ih = h + k % taps / c.kw - c.ph, iw = v + k % c.kw - c.pw;
            const size_t wi = r * size + o * c.in * taps + k;
            const double a = (double)at(&c, x, b, ch, ih, iw), weight = (double)w[r * ldw + wi - r * size];
            want += a * weight, bound += fabs(a * weight);
            dw[wi] += a * (double)gy[i], bw[wi] += fabs(a * (double)gy[i]);
            if (ih < c.height && iw < c.width) {
                const size_t xi = ((b * c.in + ch) * c.height + ih) * c.width + iw;
                dx[xi] += weight * (double)gy[i], bx[xi] += fabs(weight * (double)gy[i]);
            }
        }
        good &= fabs((double)y[i] - want) <= 0x1.9p-10 * bound;
    }
    CHECK(good);
    for (size_t i = 0; i < xs; i++) good &= fabs((double)gx[i] - dx[i]) <= 0x1.9p-10 * bx[i];
    CHECK(good);
    for (size_t i = 0; i < c.rows * size; i++) good &= fabs((double)gw[i] - dw[i]) <= 0x1.1p-9 * bw[i];
    CHECK(good);
    cg_buf_free(x), cg_buf_free(w), cg_buf_free(gy), cg_buf_free(y), cg_buf_free(gx), cg_buf_free(gw);
    cg_buf_free(dx), cg_buf_free(dw), cg_buf_free(bx), cg_buf_free(bw), cg_buf_free(work);
}

int main(void) {
    for (cg_twin_backwards = 0; cg_twin_backwards < 2; cg_twin_backwards++) {
        /* rows, batch, in, out, height, width, kh, kw, ph, pw, ldx: set there */
        test_rowconv((cg_rowconv){1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0}, 0);
        test_rowconv((cg_rowconv){2, 3, 3, 5, 7, 9, 3, 5, 1, 2, 0}, 1);
        test_rowconv((cg_rowconv){1, 2, 3, 32, 24, 32, 5, 5, 2, 2, 0}, 3); /* tiles down the image; wide */
        test_rowconv((cg_rowconv){2, 9, 11, 34, 8, 8, 5, 5, 2, 2, 0}, 0);  /* many images a tile, chunks */
        test_rowconv((cg_rowconv){1, 2, 20, 65, 6, 5, 3, 3, 0, 1, 0}, 7);  /* no padding above */
        test_rowconv((cg_rowconv){1, 1, 35, 3, 5, 12, 5, 5, 4, 4, 0}, 0);  /* all of the padding; blocks of columns */
        test_rowconv((cg_rowconv){1, 1, 2, 3, 3, 250, 2, 13, 1, 6, 0}, 0); /* long lines, a wide kernel */
    }
    return failed();
}
