// A fully connected layer in int8: y = relu(x w^T), for x [rows, depth] and w [units, depth], files
// of float32 without a header.
//
//   cc main.c -o layer $(pkg-config --cflags --libs zeropoint)
//   layer x.f32 w.f32 y.f32 depth
//
// The weights are quantized once, per unit and symmetric; the activations per tensor.  The dot
// products in int32 are the caller's own; zeropoint brings their sums back to 8 bits, and goes from
// these codes to those of relu by a table.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zeropoint/zeropoint.h>

static void stop(const char* what, const char* why) {
    fprintf(stderr, "layer: %s: %s\n", what, why);
    exit(1);
}

// Every call that can fail says so, and why.
static void check(zeropoint_status status, const char* what) {
    if (status != ZEROPOINT_OK) stop(what, zeropoint_message());
}

static void* memory(size_t n, size_t size) {
    void* found = calloc(n ? n : 1, size);
    if (!found) stop("memory", strerror(ENOMEM));
    return found;
}

static float* read_floats(const char* path, size_t* n) {
    FILE* file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) stop(path, strerror(errno));
    const long bytes = ftell(file);
    if (bytes < 0) stop(path, strerror(errno));
    *n = (size_t)bytes / sizeof(float);
    float* values = memory(*n, sizeof(float));
    rewind(file);
    if (fread(values, sizeof(float), *n, file) != *n) stop(path, "cannot be read");
    fclose(file);
    return values;
}

static double relu(double value, void* context) {
    (void)context;
    return value > 0 ? value : 0;
}

int main(int argc, char** argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: layer x.f32 w.f32 y.f32 depth\n");
        return 2;
    }
    size_t x_size, w_size;
    float* x = read_floats(argv[1], &x_size);
    float* w = read_floats(argv[2], &w_size);
    const size_t depth = strtoul(argv[4], NULL, 10);
    if (depth == 0 || x_size % depth || w_size % depth) stop("depth", "no divisor of both sizes");
    const size_t rows = x_size / depth, units = w_size / depth, sums = rows * units;

    // once: the weights, a scale a unit
    zeropoint_choice choice;
    zeropoint_axis_params w_params;
    zeropoint_quantizer* quantizer;
    const size_t w_shape[] = {units, depth};
    float* w_scale = memory(units, sizeof *w_scale);
    int32_t* w_zero_point = memory(units, sizeof *w_zero_point);
    int8_t* qw = memory(w_size, 1);
    check(zeropoint_make_choice(ZEROPOINT_INT8, &choice), "choice");
    choice.symmetric = 1;
    check(zeropoint_choose_axis_params(w, ZEROPOINT_FLOAT32, w_shape, 2, 0, 0, &choice, w_scale,
                                       w_zero_point, units, &w_params),
          "w");
    check(zeropoint_quantizer_create_axis(&w_params, w_shape, 2, &quantizer), "w");
    check(zeropoint_quantizer_quantize(quantizer, w, ZEROPOINT_FLOAT32, qw, w_size), "w");
    zeropoint_quantizer_destroy(quantizer);

    // the activations
    zeropoint_params x_params, sum_params, y_params;
    int8_t* qx = memory(x_size, 1);
    choice.symmetric = 0;
    check(zeropoint_quantize_dynamic(x, ZEROPOINT_FLOAT32, qx, x_size, &choice, &x_params), "x");

    // the caller's dot products; one unit of a sum is worth acc_scale
    int32_t* acc = memory(sums, sizeof *acc);
    double* acc_scale = memory(units, sizeof *acc_scale);
    float* y = memory(sums, sizeof *y);
    for (size_t u = 0; u < units; ++u) acc_scale[u] = (double)x_params.scale * w_scale[u];
    for (size_t r = 0; r < rows; ++r)
        for (size_t u = 0; u < units; ++u) {
            int32_t sum = 0;
            for (size_t k = 0; k < depth; ++k)
                sum += (qx[r * depth + k] - x_params.zero_point) * qw[u * depth + k];
            acc[r * units + u] = sum;
            y[r * units + u] = (float)(sum * acc_scale[u]);
        }

    // the range of a sum would be known from calibration; it is the same for all units
    check(zeropoint_choose_params(y, ZEROPOINT_FLOAT32, sums, &choice, &sum_params), "sums");
    float* sum_scale = memory(units, sizeof *sum_scale);
    for (size_t u = 0; u < units; ++u) sum_scale[u] = sum_params.scale;
    const zeropoint_axis_params per_unit = {.scale = sum_scale,
                                            .count = units,
                                            .zero_point = &sum_params.zero_point,
                                            .zero_point_count = 1,
                                            .axis = 1,
                                            .qmin = sum_params.qmin,
                                            .qmax = sum_params.qmax,
                                            .dtype = sum_params.dtype,
                                            .convention = sum_params.convention,
                                            .include_zero = 1};

    // after relu all codes stand for what is above 0
    const float steps = (float)(sum_params.qmax - sum_params.zero_point);
    check(zeropoint_make_params(sum_params.scale * steps / 255, sum_params.qmin, ZEROPOINT_INT8,
                                ZEROPOINT_NUMPY, &y_params),
          "y");

    // what is prepared is made once, and its calls take no memory
    const size_t y_shape[] = {rows, units};
    int8_t* qy = memory(sums, 1);
    zeropoint_requantizer* requantizer;
    zeropoint_lookup* lookup;
    check(zeropoint_requantizer_create_axis(acc_scale, units, &per_unit, y_shape, 2, &requantizer),
          "y");
    check(zeropoint_lookup_create(relu, NULL, &sum_params, &y_params, &lookup), "relu");
    check(zeropoint_requantizer_requantize(requantizer, acc, qy, sums), "y");
    check(zeropoint_lookup_apply(lookup, qy, qy, sums), "relu");
    check(zeropoint_dequantize(qy, y, ZEROPOINT_FLOAT32, sums, &y_params), "y");
    zeropoint_requantizer_destroy(requantizer);
    zeropoint_lookup_destroy(lookup);

    FILE* file = fopen(argv[3], "wb");
    if (!file || fwrite(y, sizeof *y, sums, file) != sums || fclose(file))
        stop(argv[3], strerror(errno));
    printf("zeropoint %s on %s: %zu x %zu by %zu, y scale %.9g, zero point %d\n",
           zeropoint_version(), zeropoint_isa(), rows, depth, units, (double)y_params.scale,
           (int)y_params.zero_point);
    void* all[] = {x, w, w_scale, w_zero_point, qw, qx, acc, acc_scale, y, sum_scale, qy};
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i) free(all[i]);
    return 0;
}
