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
    Held<NativeParams>::make_type(m, "Params");
    Held<NativeChoice>::make_type(m, "Choice");
    Held<NativeTables>::make_type(m, "Tables");

    m.def("isas", &zp::isas);
    m.def("set_num_threads", &zp::set_num_threads);
    m.def("get_num_threads", &zp::get_num_threads);
    m.def("enter_ieee", &zp::enter_ieee);
    m.def("leave_ieee", &zp::leave_ieee);

    m.def("conventions", &conventions);  // parameters.h
    m.def("offset_conventions", &offset_conventions);
    m.def("make_params", &make_params);
    m.def("make_offset_params", &make_offset_params);
    m.def("make_choice", &make_choice);
    m.def("make_tables", &make_tables);
    m.def(
        "choose",
        [](const py::array& low, const py::array& high, const NativeChoice& choice) -> py::object {
            auto found = choose(low, high, choice.core);
            if (!found) return py::none();
            return py::make_tuple(std::move(found->scale), std::move(found->zero));
        });
    m.def("quotients", &quotients);

    m.def("set_state", &Entry::set_state);  // calls.h
    m.def("set_params_type", &set_params_type);
    m.def("set_offset_params_type", &set_offset_params_type);
    m.def("set_choices", &set_choices);
    m.def("make_entry", &make_entry);

    m.def("quantize_into", &into<&quantize, NativeParams>);  // general.h
    m.def("dequantize_into", &into<&dequantize, NativeParams>);
    m.def("fake_quantize_into", &into<&fake_quantize, NativeParams>);
    m.def("requantize_into", &into<&requantize_by, NativeParams, py::array>);
    m.def("lookup_into", &into<&look_up, NativeTables>);
    m.def("saturate_into", &into<&saturate, std::int64_t, std::int64_t>);
    m.def("saturate_cast_into", &into<&saturate_cast, bool>);
    m.def("round_into", &into<&rounded, bool>);
    m.def("ranges", &min_max);
    m.def("histogram", &histogram);
    m.def("errors", &errors);
    m.def("to_q8_0", &to_q8_0);
    m.def("from_q8_0", &from_q8_0);
    m.def("info", &info);
}
