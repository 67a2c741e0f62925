// The Python module: its table of contents.
#include "arrays.h"
#include "calls.h"
#include "fast.h"
#include "general.h"
#include "parameters.h"

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
    m.doc() = "The compiled core of zeropoint; used by zeropoint._backend alone.";
    make_dtypes();
    make_convention_texts();
    try {
        zp::check_environment();  // read now, as Python reads it; the error is Python's
    } catch (const std::invalid_argument&) {
    }
    // made by functions: pybind11 puts a new object on its list in these under a handler of
    // exceptions, and after a constructor under none, where a lack of memory ends the process
    py::class_<NativeParams>(m, "Params");
    py::class_<NativeChoice>(m, "Choice");

    m.def("isas", &zp::isas);
    m.def("set_num_threads", &zp::set_num_threads);
    m.def("get_num_threads", &zp::get_num_threads);
    m.def("enter_ieee", &zp::enter_ieee);
    m.def("leave_ieee", &zp::leave_ieee);

    m.def("conventions", &conventions);  // parameters.h
    m.def("make_params", &make_params);
    m.def("make_choice", &make_choice);
    m.def("choose", [](const py::array& low, const py::array& high, const NativeChoice& choice) {
        return choose(low, high, choice.core);
    });
    m.def("quotients", &quotients);

    m.def("set_state", &Entry::set_state);  // calls.h
    m.def("set_params_type", &set_params_type);
    m.def("set_choices", &set_choices);
    m.def("make_entry", &make_entry);

    m.def("quantize_into", &into<&quantize>);  // general.h
    m.def("dequantize_into", &into<&dequantize>);
    m.def("fake_quantize_into", &into<&fake_quantize>);
    m.def("requantize_into", &requantize_into);
    m.def("saturate_into", &saturate_into);
    m.def("saturate_cast_into", &saturate_cast_into);
    m.def("round_into", &round_into);
    m.def("ranges", &min_max);
    m.def("histogram", &histogram);
    m.def("errors", &errors);
    m.def("info", &info);
}
