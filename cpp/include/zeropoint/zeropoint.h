// zeropoint in C11: exact and fast 8-bit affine quantization for CPUs; zeropoint.hpp in C++ has the
// same, and says what is computed.
//
//     zeropoint_choice how;
//     zeropoint_params params;
//     if (zeropoint_make_choice(ZEROPOINT_UINT8, &how) ||
//         zeropoint_choose_params(x, ZEROPOINT_FLOAT32, n, &how, &params) ||
//         zeropoint_quantize(x, ZEROPOINT_FLOAT32, q, n, &params))
//         puts(zeropoint_message());
//
// What can fail returns a zeropoint_status, and has then written no array; zeropoint_message() says
// why.  NULL and lengths that cannot be are errors.  No exception leaves the library.
//
// Arrays are C-contiguous and aligned to their element; one without elements may be NULL.  Input
// and output must not overlap, except that fake_quantize, round, saturate and a lookup may work in
// place.  All functions may be called from several threads at once; a handle is not changed by its
// calls, which take no memory, and may be used by all of them.  To destroy NULL does nothing.
//
// Shapes have `dimensions` lengths; an axis counts from 0.
#ifndef ZEROPOINT_ZEROPOINT_H
#define ZEROPOINT_ZEROPOINT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---- types --------------------------------------------------------------------------------------

typedef int32_t zeropoint_status;
enum {
    ZEROPOINT_OK = 0,
    ZEROPOINT_INVALID_ARGUMENT = 1,  // the message names the argument, the value and the fix
    ZEROPOINT_OUT_OF_MEMORY = 2
};

// Data are FLOAT32, or FLOAT16 (IEEE 754 binary16) and BFLOAT16 as their 16 bits; codes are UINT8
// or INT8.
typedef int32_t zeropoint_dtype;
enum {
    ZEROPOINT_FLOAT16 = 0,
    ZEROPOINT_BFLOAT16 = 1,
    ZEROPOINT_FLOAT32 = 2,
    ZEROPOINT_INT8 = 4,
    ZEROPOINT_UINT8 = 5
};

// A whole recipe of arithmetic, named after whose it is.
typedef int32_t zeropoint_convention;
enum {
    ZEROPOINT_NUMPY = 0,
    ZEROPOINT_ONNX = 1,
    ZEROPOINT_TORCH = 2,
    ZEROPOINT_TFLITE = 3,
    ZEROPOINT_GGML = 4
};

// Where a zero point comes from: the convention's rule, max, min, or the one of these two that
// moves the ends of the range less.
typedef int32_t zeropoint_rule;
enum {
    ZEROPOINT_DEFAULT_RULE = 0,
    ZEROPOINT_FROM_MAX = 1,
    ZEROPOINT_FROM_MIN = 2,
    ZEROPOINT_LEAST_ERROR = 3
};

typedef int32_t zeropoint_ties;
enum { ZEROPOINT_TIES_EVEN = 0, ZEROPOINT_TIES_AWAY = 1 };

// How codes become codes under other parameters: the nearest to the real value; as LiteRT's default
// kernels, or its reference kernels; dequantized and quantized.
typedef int32_t zeropoint_arithmetic;
enum {
    ZEROPOINT_EXACT = 0,
    ZEROPOINT_LITERT = 1,
    ZEROPOINT_LITERT_REFERENCE = 2,
    ZEROPOINT_IN_FLOAT = 3
};

// Parameters of a whole tensor; zeropoint_make_params fills them in.  Valid: scale finite and > 0
// (under torch and ggml 1 / scale finite too); qmin < qmax, both codes of `dtype`; zero_point in
// [qmin, qmax], or with include_zero 0 (ZEROPOINT_NUMPY alone) any.
typedef struct zeropoint_params {
    float scale;
    int32_t zero_point, qmin, qmax;
    zeropoint_dtype dtype;  // of the codes
    zeropoint_convention convention;
    int32_t include_zero;  // 1 or 0
} zeropoint_params;

// Parameters along an axis: a pair for each channel (block_size 0), or for every `block_size`
// elements along it, in the array's order with the axis divided by block_size, rounded up.  The
// two arrays stay the caller's; handles copy them.
typedef struct zeropoint_axis_params {
    const float* scale;
    const int32_t* zero_point;
    size_t count;             // of scales
    size_t zero_point_count;  // as many, or 1: one for all
    size_t axis, block_size;
    int32_t qmin, qmax;
    zeropoint_dtype dtype;
    zeropoint_convention convention;
    int32_t include_zero;
} zeropoint_axis_params;

// How to choose parameters from data; zeropoint_make_choice fills it in.
typedef struct zeropoint_choice {
    zeropoint_rule zero_point_from;
    int32_t include_zero;  // 1: widen the range to hold 0
    int32_t symmetric;     // 1: zero point in the middle; by the default rule
    int32_t qmin, qmax;
    zeropoint_dtype dtype;
    zeropoint_convention convention;
} zeropoint_choice;

// ---- the library and the machine ----------------------------------------------------------------

// MAJOR.MINOR.PATCH
const char* zeropoint_version(void);

// What was wrong in the last call of this thread that failed; "" before the first.
const char* zeropoint_message(void);

// The instruction sets that this CPU can run and the library has code for, best first; NULL from
// the first `index` on that has none.
const char* zeropoint_isa_name(size_t index);

// The one that calls use: the best, unless zeropoint_set_isa named another; process-wide.  NULL or
// "" is the best.
const char* zeropoint_isa(void);
zeropoint_status zeropoint_set_isa(const char* name);

// Threads that a large call may use, process-wide; 0: the CPUs that this process may use.
size_t zeropoint_get_num_threads(void);
void zeropoint_set_num_threads(size_t n);

// ---- parameters ---------------------------------------------------------------------------------

// The full range of the codes, include_zero 1; checks them.
zeropoint_status zeropoint_make_params(float scale, int32_t zero_point, zeropoint_dtype codes,
                                       zeropoint_convention convention, zeropoint_params* params);

// The full range of the codes, the zero point by the default rule of ZEROPOINT_NUMPY, include_zero
// 1, not symmetric.
zeropoint_status zeropoint_make_choice(zeropoint_dtype codes, zeropoint_choice* choice);

// Scale and zero point for n elements.  Errors: no data, a NaN or an Inf, no finite scale, a zero
// point beyond int32_t, constant data without include_zero.
zeropoint_status zeropoint_choose_params(const void* x, zeropoint_dtype dtype, size_t n,
                                         const zeropoint_choice* choice, zeropoint_params* params);

// How many parameters an array of this shape has along `axis`: one a channel, or a block.
zeropoint_status zeropoint_parameter_count(const size_t* shape, size_t dimensions, size_t axis,
                                           size_t block_size, size_t* count);

// A pair for each channel or block, into two arrays of `count` elements, the number that
// zeropoint_parameter_count gives; `params` then points to them.
zeropoint_status zeropoint_choose_axis_params(const void* x, zeropoint_dtype dtype,
                                              const size_t* shape, size_t dimensions, size_t axis,
                                              size_t block_size, const zeropoint_choice* choice,
                                              float* scale, int32_t* zero_point, size_t count,
                                              zeropoint_axis_params* params);

// Minimum and maximum; a zero is +0.  Errors: no data, NaN, Inf.
zeropoint_status zeropoint_min_max(const void* x, zeropoint_dtype dtype, size_t n, float* low,
                                   float* high);

// ---- prepared operations: checked once; n is then any number, or with a shape that of its
// elements

typedef struct zeropoint_quantizer zeropoint_quantizer;

// On an error the handle is NULL, here and below.
zeropoint_status zeropoint_quantizer_create(const zeropoint_params* params,
                                            zeropoint_quantizer** quantizer);
zeropoint_status zeropoint_quantizer_create_axis(const zeropoint_axis_params* params,
                                                 const size_t* shape, size_t dimensions,
                                                 zeropoint_quantizer** quantizer);
void zeropoint_quantizer_destroy(zeropoint_quantizer* quantizer);

// `dtype` is that of x and y; q holds codes of the parameters' dtype.
zeropoint_status zeropoint_quantizer_quantize(const zeropoint_quantizer* quantizer, const void* x,
                                              zeropoint_dtype dtype, void* q, size_t n);
zeropoint_status zeropoint_quantizer_dequantize(const zeropoint_quantizer* quantizer, const void* q,
                                                void* x, zeropoint_dtype dtype, size_t n);
// dequantize(quantize(x)) in one pass; y may be x.
zeropoint_status zeropoint_quantizer_fake_quantize(const zeropoint_quantizer* quantizer,
                                                   const void* x, void* y, zeropoint_dtype dtype,
                                                   size_t n);

// int32 accumulators to codes: clip(rint(float(acc) * M) + zero_point), M = float(acc_scale /
// scale), the quotient in double.  `acc_scale` is the size of one unit of the accumulators, usually
// the product of the scales of the two factors; along an axis (block_size 0) one a channel, or one.
typedef struct zeropoint_requantizer zeropoint_requantizer;

zeropoint_status zeropoint_requantizer_create(double acc_scale, const zeropoint_params* params,
                                              zeropoint_requantizer** requantizer);
zeropoint_status zeropoint_requantizer_create_axis(const double* acc_scale, size_t acc_scale_count,
                                                   const zeropoint_axis_params* params,
                                                   const size_t* shape, size_t dimensions,
                                                   zeropoint_requantizer** requantizer);
void zeropoint_requantizer_destroy(zeropoint_requantizer* requantizer);

zeropoint_status zeropoint_requantizer_requantize(const zeropoint_requantizer* requantizer,
                                                  const int32_t* acc, void* q, size_t n);

// Codes to codes: a table of all 256, for each channel.  `source` and `target` are the parameters
// of what goes in and comes out; with a shape, each has a count of 1, or of the channels along its
// axis, and block_size 0.
typedef struct zeropoint_lookup zeropoint_lookup;

zeropoint_status zeropoint_lookup_create_rescale(const zeropoint_params* source,
                                                 const zeropoint_params* target,
                                                 zeropoint_arithmetic arithmetic,
                                                 zeropoint_lookup** lookup);
zeropoint_status zeropoint_lookup_create_rescale_axis(const zeropoint_axis_params* source,
                                                      const zeropoint_axis_params* target,
                                                      zeropoint_arithmetic arithmetic,
                                                      const size_t* shape, size_t dimensions,
                                                      zeropoint_lookup** lookup);
// Any function of a value, which is called here and not later, with `context`; NaN becomes qmin.
zeropoint_status zeropoint_lookup_create(double (*function)(double value, void* context),
                                         void* context, const zeropoint_params* source,
                                         const zeropoint_params* target, zeropoint_lookup** lookup);
zeropoint_status zeropoint_lookup_create_axis(double (*function)(double value, void* context),
                                              void* context, const zeropoint_axis_params* source,
                                              const zeropoint_axis_params* target,
                                              const size_t* shape, size_t dimensions,
                                              zeropoint_lookup** lookup);
// uint8 pixels of images of this shape: quantize((pixel / scale - mean) / std); `mean` and `std`
// have one number, or one for each channel along channel_axis.
zeropoint_status zeropoint_lookup_create_image(const double* mean, size_t mean_count,
                                               const double* std, size_t std_count, double scale,
                                               const zeropoint_params* params, const size_t* shape,
                                               size_t dimensions, size_t channel_axis,
                                               zeropoint_lookup** lookup);
zeropoint_status zeropoint_lookup_create_image_axis(const double* mean, size_t mean_count,
                                                    const double* std, size_t std_count,
                                                    double scale,
                                                    const zeropoint_axis_params* params,
                                                    const size_t* shape, size_t dimensions,
                                                    size_t channel_axis, zeropoint_lookup** lookup);
void zeropoint_lookup_destroy(zeropoint_lookup* lookup);

// r may be q.
zeropoint_status zeropoint_lookup_apply(const zeropoint_lookup* lookup, const void* q, void* r,
                                        size_t n);
// The largest |function(value) - value of the code|, saturation included.
zeropoint_status zeropoint_lookup_max_abs_error(const zeropoint_lookup* lookup, double* error);
// `count` times 256 bytes, which live as long as the handle: the code whose byte is b becomes the
// one whose byte is at [b].
zeropoint_status zeropoint_lookup_table(const zeropoint_lookup* lookup, const uint8_t** table,
                                        size_t* count);

// ---- single calls: the same, with the checks in each --------------------------------------------

zeropoint_status zeropoint_quantize(const void* x, zeropoint_dtype dtype, void* q, size_t n,
                                    const zeropoint_params* params);
zeropoint_status zeropoint_dequantize(const void* q, void* x, zeropoint_dtype dtype, size_t n,
                                      const zeropoint_params* params);
zeropoint_status zeropoint_fake_quantize(const void* x, void* y, zeropoint_dtype dtype, size_t n,
                                         const zeropoint_params* params);
zeropoint_status zeropoint_requantize(const int32_t* acc, void* q, size_t n, double acc_scale,
                                      const zeropoint_params* params);

// The tables are made in each call.
zeropoint_status zeropoint_rescale(const void* q, void* r, size_t n, const zeropoint_params* source,
                                   const zeropoint_params* target, zeropoint_arithmetic arithmetic);

// Chooses parameters from the data and quantizes with them.
zeropoint_status zeropoint_quantize_dynamic(const void* x, zeropoint_dtype dtype, void* q, size_t n,
                                            const zeropoint_choice* choice,
                                            zeropoint_params* params);

// clip(x, qmin, qmax); NaN passes through; y may be x.
zeropoint_status zeropoint_saturate(const void* x, void* y, zeropoint_dtype dtype, size_t n,
                                    int64_t qmin, int64_t qmax);
// The nearest integers; NaN, Inf and the sign of 0 pass through; y may be x.
zeropoint_status zeropoint_round(const void* x, void* y, zeropoint_dtype dtype, size_t n,
                                 zeropoint_ties ties);
// Rounds halves to even, clips to the range of the codes: never wraps.  NaN becomes their minimum.
zeropoint_status zeropoint_saturate_cast(const void* x, zeropoint_dtype dtype, void* q,
                                         zeropoint_dtype codes, size_t n);

#ifdef __cplusplus
}
#endif

#endif
