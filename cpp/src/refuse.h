// How the typed API says what is wrong.
#pragma once

#include <limits>
#include <locale>
#include <sstream>
#include <stdexcept>

namespace zeropoint {

// The error for "argument value": all words in a row, numbers in full.
template <class... Words>
[[noreturn]] void refuse(const Words&... words) {
    std::ostringstream text;
    text.imbue(std::locale::classic());
    text.precision(std::numeric_limits<float>::max_digits10);
    (text << ... << words);
    throw std::invalid_argument(text.str());
}

}  // namespace zeropoint
