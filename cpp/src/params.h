// Params as the loops read them: scale and zero point in each working precision, cast once.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "types.h"
#include "zeropoint/core.hpp"

namespace zeropoint::core {

/// Scale (or what stands for it) and zero point in one precision, one pair a parameter.
template <class T>
struct Stream {
    std::vector<T> scale, zero;
};

struct Params::Data {
    std::vector<float> scale32;  // one of the two, by `precision`
    std::vector<double> scale64;
    std::vector<std::int32_t> zero_point;
    int qmin, qmax;
    DType code, precision;
    Convention convention;

    std::size_t size() const noexcept { return zero_point.size(); }

    /// For quantize, in the working precision T of the data: the scale, or under the torch
    /// convention its reciprocal.
    template <class T>
    const Stream<T>& quantizer() const;
    /// For dequantize, in the precision T of the scale.
    template <class T>
    const Stream<T>& dequantizer() const;

    /// What quantize_runs reads, made by the kernel `certify` at the first use; null where there is
    /// no memory for it.
    const Multiplier* multipliers(Kernel certify) const noexcept;

private:
    template <class T>
    struct Lazy {
        std::once_flag once;
        Stream<T> stream;
    };
    template <class T>
    const Stream<T>& cast(Lazy<T>&, bool reciprocal) const;
    mutable Lazy<float> quantizer32_, dequantizer32_;
    mutable Lazy<double> quantizer64_, dequantizer64_;
    mutable std::once_flag certified_;
    mutable std::unique_ptr<Multiplier[]> multipliers_;
};

/// float(acc) * scale + zero: the streams of the torch convention with the multiplier as
/// reciprocal.
struct Requantization::Data {
    Stream<float> stream;
    int qmin, qmax;
    DType code;
};

}  // namespace zeropoint::core
