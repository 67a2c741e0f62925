// The typed API: checks, their messages, and the chosen ISA.
#include "zeropoint/zeropoint.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <locale>
#include <sstream>
#include <stdexcept>

#include "fpstate.h"
#include "refuse.h"

namespace zeropoint {

using core::FpGuard;

[[noreturn]] void refuse_in(const Word* words, const Word* end) {
    std::ostringstream text;
    text.imbue(std::locale::classic());
    text.precision(std::numeric_limits<float>::max_digits10);
    for (; words != end; ++words) switch (words->kind) {
            case Word::Kind::text:
                text << words->text;
                break;
            case Word::Kind::real:
                text << words->real;
                break;
            case Word::Kind::integer:
                text << static_cast<std::int64_t>(words->natural);
                break;
            case Word::Kind::natural:
                text << words->natural;
        }
    throw std::invalid_argument(text.str());
}

namespace {

template <class Names>
std::string joined(const Names& names) {
    std::string text;
    for (const auto& name : names) text += (text.empty() ? "" : ", ") + std::string(name);
    return text;
}

template <class Enum, class Names>
[[noreturn]] void refuse_unknown(const char* what, Enum value, const Names& names) {
    refuse(what, " ", static_cast<int>(value), " is unknown; choose one of ", joined(names));
}

void check_recipe(std::int32_t qmin, std::int32_t qmax, Convention convention, bool include_zero,
                  core::DType code) {
    core::check_environment();
    const int first = code == core::DType::u8 ? 0 : -128, last = first + 255;
    const auto check_code = [&](const char* name, int value) {
        if (value < first || value > last)
            refuse(name, " ", value, " must lie in [", first, ", ", last,
                   "], the codes of Q; make_params<Q> sets their range");
    };
    check_code("qmin", qmin);
    check_code("qmax", qmax);
    if (qmin >= qmax)
        refuse("qmin ", qmin, " must be less than qmax ", qmax,
               "; swap them or widen the range (make_params<Q> sets that of Q)");
    if (!core::is_known(convention, core::convention_names))
        refuse_unknown("convention", convention, core::convention_names);
    if (!include_zero && convention != Convention::numpy)
        refuse("include_zero = false is for Convention::numpy alone; leave it true");
}

// `place` is "" or " of channel 3" and the like.
void check_scale(float scale, Convention convention, const std::string& place) {
    if (!(scale > 0 && scale <= std::numeric_limits<float>::max()))
        refuse("scale", place, " is ", scale, ": it must be finite and > 0");
    if (core::by_reciprocal(convention) && !std::isfinite(1 / scale))
        refuse("scale", place, " is ", scale, ": 1 / scale must be finite under Convention::",
               core::convention_names[static_cast<int>(convention)],
               "; use onnx, or a larger scale");
}

void check_zero_point(std::int32_t zero_point, std::int32_t qmin, std::int32_t qmax,
                      bool include_zero, const std::string& place) {
    if (include_zero && (zero_point < qmin || zero_point > qmax))
        refuse("zero_point", place, " is ", zero_point, ", outside [", qmin, ", ", qmax,
               "]; clip it to that range, or set include_zero = false (numpy convention)");
}

core::Params prepared(const std::vector<float>& scale, std::vector<std::int32_t> zero_point,
                      int qmin, int qmax, core::DType code, Convention convention) {
    core::Params params(scale, std::move(zero_point), qmin, qmax, code, convention);
    params.prepare();
    return params;
}

void check_size(const Shape& shape) {
    if (std::find(shape.begin(), shape.end(), std::size_t{0}) != shape.end()) return;
    std::size_t n = 1;
    for (const std::size_t length : shape) {
        if (n > std::numeric_limits<std::size_t>::max() / 8 / length)
            refuse("shape has more elements than memory can hold; check it");
        n *= length;
    }
}

core::Layout layout_of(const Shape& shape, std::size_t axis, std::size_t block_size) {
    if (axis >= shape.size())
        refuse("axis ", axis, " is out of bounds for a shape of ", shape.size(),
               " dimensions; it counts from 0");
    check_size(shape);
    return *core::Layout::along(shape.data(), shape.size(), static_cast<std::ptrdiff_t>(axis),
                                block_size);
}

// Whether not all bits of the exponent are ones.
bool is_finite(core::ConstView x, std::size_t i) {
    if (x.dtype == core::DType::f32) {
        std::uint32_t bits;
        std::memcpy(&bits, static_cast<const char*>(x.data) + i * sizeof bits, sizeof bits);
        return (bits & 0x7F800000) != 0x7F800000;
    }
    std::uint16_t bits;
    std::memcpy(&bits, static_cast<const char*>(x.data) + i * sizeof bits, sizeof bits);
    const std::uint16_t exponent = x.dtype == core::DType::f16 ? 0x7C00 : 0x7F80;
    return (bits & exponent) != exponent;
}

// Minimum and maximum for each parameter of the layout.
struct Ranges {
    std::vector<float> low, high;
};
Ranges ranges_of(core::ConstView x, const core::Layout& layout) {
    const FpGuard guard;
    core::check_environment();
    const std::size_t n = layout.size();
    if (n == 0) refuse("x has no data, so it has no range; pass at least one element");
    Ranges found{std::vector<float>(layout.parameters()), std::vector<float>(layout.parameters())};
    core::min_max(detail::isa(), x, found.low.data(), found.high.data(), layout);
    if (std::any_of(found.low.begin(), found.low.end(), [](float v) { return std::isnan(v); })) {
        std::size_t count = 0, first = 0;
        for (std::size_t i = n; i-- > 0;)
            if (!is_finite(x, i)) {
                first = i;
                ++count;
            }
        refuse("x has ", count, " NaN or Inf of ", n, " elements, the first at index ", first,
               "; replace them first");
    }
    return found;
}

void check_choice(const core::Choice& c, core::DType code) {
    check_recipe(c.qmin, c.qmax, c.convention, c.include_zero, code);
    if (c.symmetric && (c.zero_point_from != ZeroPointFrom::default_rule || !c.include_zero))
        refuse(
            "symmetric = true fixes the zero point and holds 0: leave zero_point_from and "
            "include_zero as they are");
    if (c.symmetric && c.qmax - c.qmin < 2)
        refuse("symmetric = true needs at least three codes; [", c.qmin, ", ", c.qmax, "] has two");
    if (!core::is_known(c.zero_point_from, core::rule_names))
        refuse_unknown("zero_point_from", c.zero_point_from, core::rule_names);
}

void choose_all(const Ranges& ranges, const core::Choice& choice, float* scale,
                std::int32_t* zero_point) {
    const core::Verdict verdict =
        core::choose(core::DType::f32, ranges.low.data(), ranges.high.data(), ranges.low.size(),
                     choice, scale, zero_point);
    const std::size_t i = verdict.index;
    const std::string place =
        ranges.low.size() > 1 ? " in channel or block " + std::to_string(i) : "";
    switch (verdict.fault) {
        case core::Fault::constant:
            refuse("x is constant (", ranges.low[i], ")", place,
                   ", so its range has no steps with include_zero = false; use include_zero");
        case core::Fault::too_wide:
            refuse("the range of x", place, " is too wide: (max - min) / ",
                   choice.qmax - choice.qmin, " is beyond float; scale x down, or use more codes");
        case core::Fault::too_narrow:
            refuse("the range of x", place, " is too narrow for the ",
                   core::convention_names[static_cast<int>(choice.convention)],
                   " convention: 1 / scale is beyond float; use another convention, or scale x up");
        case core::Fault::far_from_zero:
            refuse("the zero point", place, " would be beyond std::int32_t: x in [", ranges.low[i],
                   ", ", ranges.high[i], "] lies too far from 0; use include_zero");
        default:
            return;
    }
}

// float(acc_scale / scale), the quotient in double; one, or one per channel.
std::vector<float> multipliers(const std::vector<double>& acc_scale,
                               const std::vector<float>& scale, bool include_zero) {
    const FpGuard guard;
    if (!include_zero)
        refuse("include_zero = false: requantize needs a zero_point in [qmin, qmax]; set it true");
    if (acc_scale.size() != 1 && acc_scale.size() != scale.size())
        refuse("acc_scale has ", acc_scale.size(),
               " elements; it must be one, or as many as scale (", scale.size(), ")");
    std::vector<float> found(scale.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
        const double a = acc_scale[acc_scale.size() == 1 ? 0 : i];
        if (!(a > 0 && a <= std::numeric_limits<double>::max()))
            refuse("acc_scale is ", a, ": it must be finite and > 0");
        const double s = scale[i];
        core::quotients(&a, &s, &found[i], 1);
        if (!(found[i] > 0 && found[i] <= std::numeric_limits<float>::max()))
            refuse(
                "acc_scale ", a, " / scale ", scale[i],
                " is not a finite float > 0; check that acc_scale is the product of the factors' "
                "scales");
    }
    return found;
}

std::atomic<std::size_t> chosen_isa{0};

}  // namespace

std::vector<std::string> isas() { return core::isas(); }

std::string isa() { return core::isas()[chosen_isa]; }

void set_isa(const std::string& name) {
    core::check_environment();
    const auto& all = core::isas();
    const auto found = name.empty() ? all.begin() : std::find(all.begin(), all.end(), name);
    if (found == all.end())
        refuse("isa \"", name, "\" is not one that this machine can run; choose one of ",
               joined(all));
    chosen_isa = static_cast<std::size_t>(found - all.begin());
}

namespace detail {

std::size_t isa() noexcept { return chosen_isa.load(std::memory_order_relaxed); }

core::Params checked(const Params& p, DType code) {
    const FpGuard guard;
    check_recipe(p.qmin, p.qmax, p.convention, p.include_zero, code);
    check_scale(p.scale, p.convention, "");
    check_zero_point(p.zero_point, p.qmin, p.qmax, p.include_zero, "");
    return prepared({p.scale}, {p.zero_point}, p.qmin, p.qmax, code, p.convention);
}

core::Params checked(const AxisParams& p, DType code) {
    const FpGuard guard;
    check_recipe(p.qmin, p.qmax, p.convention, p.include_zero, code);
    const std::size_t n = p.scale.size();
    if (p.zero_point.size() != n && p.zero_point.size() != 1)
        refuse("zero_point has ", p.zero_point.size(), " elements and scale has ", n,
               "; they must be as many, or zero_point one");
    std::vector<std::int32_t> zeros(p.zero_point);
    if (zeros.size() == 1) zeros.resize(n, p.zero_point[0]);
    for (std::size_t i = 0; i < n; ++i) {
        const auto place = [&] {
            return n == 1 ? "" : (p.block_size ? " of block " : " of channel ") + std::to_string(i);
        };
        const float s = p.scale[i];
        const bool plain =
            s > 0x1p-126f && s < 0x1p127f && zeros[i] >= p.qmin && zeros[i] <= p.qmax;
        if (plain) continue;  // texts are made for errors alone
        check_scale(s, p.convention, place());
        check_zero_point(zeros[i], p.qmin, p.qmax, p.include_zero, place());
    }
    return prepared(p.scale, std::move(zeros), p.qmin, p.qmax, code, p.convention);
}

core::Layout layout(const Shape& shape, std::size_t axis, std::size_t block_size) {
    return layout_of(shape, axis, block_size);
}
core::Layout layout(const Shape& shape, const AxisParams& p) {
    const core::Layout found = layout_of(shape, p.axis, p.block_size);
    if (found.parameters() != p.scale.size())
        refuse("scale has ", p.scale.size(), " elements; data of this shape with axis ", p.axis,
               " and block_size ", p.block_size, " needs ", found.parameters());
    return found;
}

AxisParams along(const Params& p) {
    return {{p.scale}, {p.zero_point}, p.qmin, p.qmax, 0, 0, p.convention, p.include_zero};
}

core::Layout layout(const Shape& shape, const AxisParams& source, const AxisParams& target) {
    const bool several = source.scale.size() != 1;
    if (several && target.scale.size() != 1 && source.axis != target.axis)
        refuse("source has axis ", source.axis, " and target axis ", target.axis,
               "; they must be the same");
    const core::Layout found = layout_of(shape, several ? source.axis : target.axis, 0);
    // one scale for all of both: one table
    return several || target.scale.size() != 1 ? found : core::Layout::tensor(found.size());
}

core::Requantization requantization(const std::vector<double>& acc_scale, const Params& p,
                                    DType code) {
    return {checked(p, code), multipliers(acc_scale, {p.scale}, p.include_zero)};
}
core::Requantization requantization(const std::vector<double>& acc_scale, const AxisParams& p,
                                    DType code) {
    if (p.block_size != 0)
        refuse("block_size ", p.block_size, ": requantize works per tensor or per channel");
    return {checked(p, code), multipliers(acc_scale, p.scale, p.include_zero)};
}

Params choose(ConstView x, std::size_t n, DType code, const core::Choice& choice) {
    check_choice(choice, code);
    const Ranges ranges = ranges_of(x, core::Layout::tensor(n));
    Params p{1, 0, choice.qmin, choice.qmax, choice.convention, choice.include_zero};
    choose_all(ranges, choice, &p.scale, &p.zero_point);
    return p;
}

AxisParams choose(ConstView x, const Shape& shape, std::size_t axis, std::size_t block_size,
                  DType code, const core::Choice& choice) {
    check_choice(choice, code);
    const Ranges ranges = ranges_of(x, layout_of(shape, axis, block_size));
    AxisParams p;
    p.scale.resize(ranges.low.size());
    p.zero_point.resize(ranges.low.size());
    p.qmin = choice.qmin;
    p.qmax = choice.qmax;
    p.axis = axis;
    p.block_size = block_size;
    p.convention = choice.convention;
    p.include_zero = choice.include_zero;
    choose_all(ranges, choice, p.scale.data(), p.zero_point.data());
    return p;
}

std::pair<float, float> min_max(ConstView x, std::size_t n) {
    const Ranges ranges = ranges_of(x, core::Layout::tensor(n));
    return {ranges.low[0], ranges.high[0]};
}

void check_bounds(std::int64_t qmin, std::int64_t qmax) {
    core::check_environment();
    if (qmin > qmax) refuse("qmin ", qmin, " must not be greater than qmax ", qmax, "; swap them");
}

}  // namespace detail

}  // namespace zeropoint
