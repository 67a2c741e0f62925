"""Which tensors are taken for weights of linear layers, beside the modules of transformers' models.

Every language model that it knows is made from its default configuration, without memory for its
weights.  An embedding that was quantized would be lost on the engine, which looks for its values.
"""

import re

import pytest

from zeropoint._files import linear

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
MAPPINGS = (
    transformers.MODEL_FOR_CAUSAL_LM_MAPPING,
    transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    transformers.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
)
#: Conv1D is told by its biases (`test_transposed_layers`)
LINEAR = torch.nn.Linear, transformers.pytorch_utils.Conv1D
DEPTHS = "num_hidden_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "depth"


def shallow(config):
    """With two layers of each kind, which have the names of all."""
    parts = [getattr(config, f"{kind}_config", None) for kind in ("text", "vision", "audio")]
    for one in (config, *parts):
        for depth in DEPTHS:
            if isinstance(getattr(one, depth, None), int):
                setattr(one, depth, min(getattr(one, depth), 2))
    return config


def models():
    """Those that their default configuration makes; many multimodal ones need more."""
    for mapping in MAPPINGS:
        for kind in mapping:
            architecture = mapping[kind]
            architecture = architecture[0] if isinstance(architecture, tuple) else architecture
            try:
                with torch.device("meta"):
                    yield kind.__name__, architecture(shallow(kind()))
            except Exception:  # of any kind, from 300 models
                continue


@pytest.mark.slow("it makes hundreds of models")
@pytest.mark.filterwarnings("ignore")
def test_what_is_taken_is_linear(note):
    transformers.logging.set_verbosity_error()
    made, taken, wrong = set(), 0, set()
    for model_name, model in models():
        made.add(model_name)
        modules = dict(model.named_modules())
        for name, parameter in model.named_parameters():
            layer = name.removesuffix(".weight")
            if parameter.ndim != 2 or layer == name or linear.kind_of(layer):
                continue
            taken += 1
            if not isinstance(modules[layer], LINEAR):
                kind = type(modules[layer]).__name__
                wrong.add((model_name, re.sub(r"\.\d+", ".N", layer), kind))
    note(f"transformers: {len(made)} models, {taken:,} layers that we take are linear")
    assert not wrong
    assert len(made) > 150
