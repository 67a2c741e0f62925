// Params as the loops read them: scale and zero point in each working precision, cast once.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "types.h"
#include "zeropoint/core.hpp"

namespace zeropoint::core {

/// Scale (or what stands for it) and zero point, or offset, in one precision, one pair per
/// parameter.
template <class T>
struct Stream {
    std::vector<T> scale, zero;
};

/// What is made at its first use, by the thread that comes first; where two come at once, both make
/// it and one of the two is dropped.  Not std::call_once: few of those survive an exception in the
/// making, and none a fork in the middle of it.
template <class T>
class Lazy {
public:
    Lazy() = default;
    ~Lazy() { delete made_.load(std::memory_order_relaxed); }
    Lazy(const Lazy&) = delete;
    Lazy& operator=(const Lazy&) = delete;
    /// `make` returns a std::unique_ptr<T>; where it throws, the next call makes it.
    template <class Make>
    const T& get(const Make& make) const {
        const T* found = made_.load(std::memory_order_acquire);
        if (found) return *found;
        std::unique_ptr<const T> mine = make();
        if (!made_.compare_exchange_strong(found, mine.get())) return *found;
        return *mine.release();
    }

private:
    mutable std::atomic<const T*> made_{nullptr};
};

struct Params::Data {
    std::vector<double> scale;  // numbers of `precision`; the span under faiss
    std::vector<std::int32_t> zero_point;
    std::vector<double> offset;  // in place of the zero point
    int qmin, qmax;
    DType code, precision;
    Convention convention;                      // without an offset
    std::optional<OffsetConvention> by_offset;  // and with one
    OffsetForm form;
    std::optional<int> nan_code;

    std::size_t size() const noexcept { return scale.size(); }
    bool has_offset() const noexcept { return by_offset.has_value(); }

    /// For quantize, in the working precision T of the data: the scale, or what the convention
    /// divides or multiplies by in its place.
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
    T divisor(T scale) const noexcept;
    template <class T>
    const Stream<T>& cast(const Lazy<Stream<T>>&, bool divides) const;
    Lazy<Stream<float>> quantizer32_, dequantizer32_;
    Lazy<Stream<double>> quantizer64_, dequantizer64_;
    Lazy<std::vector<Multiplier>> multipliers_;
};

/// float(acc) * scale + zero: the streams of the torch convention with the multiplier as
/// reciprocal.
struct Requantization::Data {
    Stream<float> stream;
    int qmin, qmax;
    DType code;
};

}  // namespace zeropoint::core
