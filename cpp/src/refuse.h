// How the typed API says what is wrong.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>
#include <type_traits>

namespace zeropoint {

// Text, or a number in full.
struct Word {
    Word(const char* text) : kind(Kind::text), text(text) {}
    Word(const std::string& text) : Word(text.c_str()) {}
    Word(double number) : kind(Kind::real), real(number) {}
    template <class T, class = std::enable_if_t<std::is_integral_v<T>>>
    Word(T number) : kind(std::is_signed_v<T> ? Kind::integer : Kind::natural) {
        natural = static_cast<std::uint64_t>(number);
    }
    enum class Kind { text, real, integer, natural } kind;
    union {
        const char* text;
        double real;
        std::uint64_t natural;
    };
};

// The error for "argument value": all words in a row.
[[noreturn]] void refuse_in(const Word* words, const Word* end);
template <class... Words>
[[noreturn]] void refuse(const Words&... words) {
    const Word all[] = {words...};
    refuse_in(all, std::end(all));
}

}  // namespace zeropoint
