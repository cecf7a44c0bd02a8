"""What a design may say, under which names, and what is said about one that does not work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from auralflow_adaptive_unet import AdaptiveUNetParams, UNetParams
from auralflow_adaptive_unet.layers import VOCABULARY, read_layer
from auralflow_core.config import ModelParams, validate
from auralflow_core.config.yaml import parse_yaml
from auralflow_core.errors import ConfigError

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")

# As `readme.md` of the original project writes them.
ENCODER = [["conv", 3], ["batch_norm"], ["leaky_relu", 0.2], ["max_pool", 2]]
DECODER = [["transpose_conv", 2], ["conv", 3], ["batch_norm"], ["relu"], ["dropout", 0.4]]
BOTTLENECK = [["lstm", 3]]


def adaptive(**data: Any) -> AdaptiveUNetParams:
    return validate(AdaptiveUNetParams, data)


def unet(**data: Any) -> UNetParams:
    return validate(UNetParams, data)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (["btach_norm"], 'unknown layer "btach_norm"; did you mean batch_norm'),
        (["zzz"], 'unknown layer "zzz"; known: conv, transpose_conv'),
        ([], r"\[\] is no layer; write \[word\], \[word, value\] or"),
        (["conv", 3, 3], "is no layer"),
        ([3], "is no layer"),
        (7, "7 is no layer"),
        (["relu", 3], "relu: takes no value, got 3"),
        (["conv", 0], "conv: kernel_size 0 must be a whole number from 1 to 64"),
        (["conv", [3]], "conv: kernel_size"),
        (["conv", True], "conv: kernel_size True must be"),
        (["conv", {"kernal_size": 3}], "conv: unknown option kernal_size; did you mean kernel_size"),
        (["relu", {"x": 3}], "relu: unknown option x; known: none"),
        (["dropout", 1], "dropout: p 1 must be a number from 0 to below 1"),
        (["dropout", {"channels": 1}], "dropout: channels 1 must be true or false"),
        (["lstm", {"axis": "bins"}], "lstm: axis 'bins' must be time or frequency"),
        (["lstm", 0], "lstm: layers 0 must be a whole number from 1 to 16"),
        (["upsample", {"mode": "cubic"}], "mode 'cubic' must be nearest or bilinear"),
        (["transpose_conv", {"kernel_size": 2, "stride": 3}], "kernel_size 2 is below its stride 3"),
    ],
)
def test_entries_that_are_refused(entry: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_layer(entry)


def test_options_that_are_left_out_have_their_defaults() -> None:
    assert read_layer("conv") == read_layer(["conv"]) == read_layer(["conv", {}]) == read_layer(("conv", 3))
    assert read_layer(["conv", {"kernel-size": [5, 1]}]).options["kernel_size"] == [5, 1]


@pytest.mark.parametrize("params", (adaptive, unet))
@pytest.mark.parametrize(
    ("part", "layers", "message"),
    [
        ("encoder", [*ENCODER[:2], ["btach_norm"]], r'^encoder\[2\]: unknown layer "btach_norm"'),
        ("decoder", [["conv", 3], ["max_pool", 2]], r"^decoder\[1\]: max_pool reduces, which only an encoder may"),
        ("encoder", [["upsample", 2]], r"^encoder\[0\]: upsample enlarges, which only a decoder may"),
        ("bottleneck", [["conv", {"stride": 2}]], r"^bottleneck\[0\]: conv reduces, which only an encoder may"),
        ("bottleneck", [["attention", 3]], r"^bottleneck\[0\]: attention: heads 3 does not divide the 512 channels"),
        ("encoder", [], r"^encoder: is an empty list"),
    ],
)
def test_errors_name_the_entry(params: Any, part: str, layers: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        params(**{"encoder": ENCODER, "decoder": DECODER, part: layers})


def test_a_decoder_that_does_not_undo_the_scale_is_refused_with_sizes() -> None:
    with pytest.raises(ConfigError) as caught:
        adaptive(max_layers=2, encoder=[["conv", 3], ["max_pool", [4, 2]]])
    assert str(caught.value).splitlines() == [
        "decoder: each level enlarges by 2 x 2 (bins x frames), but the encoder's reduces by 4 x 2; make them equal. "
        "Level by level:",
        "  encoder 1: 513 x 256 becomes 129 x 128",
        "  encoder 2: 129 x 128 becomes 33 x 64",
        "  decoder 2: 33 x 64 becomes 66 x 128, needed 129 x 128",
        "  decoder 1: 66 x 128 becomes 132 x 256, needed 513 x 256",
    ]


def test_two_halvings_are_undone_by_one_fourfold_layer() -> None:
    design = adaptive(
        encoder=[["max_pool", 2], ["conv", {"stride": 2}]],
        decoder=[["transpose_conv", {"kernel_size": 4, "stride": 4}]],
    )
    assert [level.scale for level in design.plan(1).decoder] == [(4, 4)] * 6


def test_older_spellings_mean_the_same() -> None:
    table = {
        "max-layers": 5,
        "init-features": 8,
        "bottleneck": {"type": "lstm", "layers": 2},
        "encoder": {"block-layers": 2, "kernel-size": [8, 1], "down": "maxpool", "leak": 0.1},
        "decoder": {
            "block-layers": 2,
            "kernel-size": 3,
            "up": "upsample",
            "dropout": 0.1,
            "num-dropouts": 1,
            "skip-connections": False,
        },
        "mask-activation": "relu",
        "input-norm": False,
        "output-norm": True,
    }
    flat = {
        "encoder-depth": 5,
        "init_hidden": 8,
        "bottleneck": "lstm",
        "bottleneck-size": 2,
        "block-size": 2,
        "encoder": {"kernel_size": [8, 1]},
        "decoder": {"kernel_size": 3, "up": "upsample"},
        "downsample": "max_pool",
        "leak": 0.1,
        "dropout": 0.1,
        "num_dropout": 1,
        "skip-connections": False,
        "activation": "relu",
        "normalize_input": False,
        "normalize_output": True,
    }
    assert unet(**table) == unet(**flat)
    assert unet(**table).design().encoder[0] == ["conv", [8, 1]]
    assert unet(kernel_size=3) == unet(encoder={"kernel_size": 3}, decoder={"kernel_size": 3})
    assert adaptive(init_features=8, skip_connections=False) == adaptive(hidden_channels=8, use_skip=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"init_features": 8, "hidden_channels": 8}, "init_features and hidden_channels are one setting"),
        ({"kernel_size": 3, "encoder": {"kernel-size": 3}}, "kernel_size and encoder.kernel_size are one setting"),
        ({"use_skip": True, "decoder": {"skip_connections": True}}, "use_skip and decoder.skip_connections are one"),
        ({"kernel_size": 3, "encoder": ENCODER}, "kernel_size: encoder is given as nested lists"),
        ({"bottleneck": BOTTLENECK, "bottleneck_layers": "x"}, "bottleneck_layers 'x' must be a whole number"),
        ({"encoder": {"down": "maxpol"}}, "encoder.down: 'maxpol' must be .* did you mean maxpool"),
        ({"encoder": {"kernel_size": [3, 0]}}, r"encoder.kernel_size: \[3, 0\] must be a whole number from 1 to 64"),
        ({"encoder": {"kernal_size": 3}}, "encoder.kernal_size: unknown setting; did you mean kernel_size"),
        ({"encoder": 5}, "encoder: 5 "),
        ({"max_layers": 11}, "max_layers: 11 must be less than or equal to 10"),
        ({"max_layer": 5}, "max_layer: unknown setting; did you mean max_layers"),
    ],
)
def test_settings_that_are_refused(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        unet(**data)


def test_unet_is_written_as_nested_lists() -> None:
    design = unet(bottleneck={"layers": 1}, encoder={"block_layers": 2}, decoder={"block_layers": 2}).design()
    after = [["batch_norm"], ["leaky_relu", 0.2]]
    assert design.encoder == [["conv", 5], *after, ["conv", {"kernel_size": 5, "stride": 2}], *after]
    assert design.decoder == [
        ["transpose_conv", {"kernel_size": 5, "stride": 2}],
        *[["batch_norm"], ["relu"], ["conv", 5], ["batch_norm"], ["relu"]],
        ["dropout", {"p": 0.5, "levels": 3}],
    ]
    assert design.bottleneck == [["conv", 5], *after]
    assert unet().design().bottleneck == []
    assert unet(bottleneck="lstm").design().bottleneck == [["lstm", 3]]
    assert unet(encoder={"down": "decimate", "leak": 0}).design().encoder[2:] == [["relu"], ["decimate", 2]]


def test_nested_lists_take_the_counts_beside_them() -> None:
    design = unet(encoder=ENCODER, decoder=DECODER, bottleneck=[["gru"]], bottleneck_layers=2, num_dropout=3).design()
    assert design.bottleneck == [["gru"], ["gru"]]
    assert design.decoder[-1] == ["dropout", {"levels": 3, "p": 0.4}]


@pytest.mark.parametrize(
    "params",
    [
        adaptive(),
        adaptive(encoder=["conv", ["max_pool", 2]], bottleneck=BOTTLENECK),
        unet(),
        unet(encoder=ENCODER),
        unet(bottleneck="lstm"),
    ],
    ids=lambda params: type(params).__name__,
)
def test_params_survive_json(params: ModelParams) -> None:
    text = json.dumps(params.model_dump(mode="json"))
    assert validate(type(params), json.loads(text)) == params


def test_parameters_and_sizes_need_no_torch() -> None:
    code = (
        "import sys; import auralflow_adaptive_unet as plugin; "
        "plugin.size_table(plugin.UNetParams(), 513, 100); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_readme_examples_work() -> None:
    (example,) = blocks("yaml")
    assert unet(**parse_yaml(example)["model"]["params"]).design().bottleneck
    (example,) = blocks("json")
    assert adaptive(**json.loads(example)["model"]["params"]).max_layers == 5
    (example,) = blocks("python")
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["network"].num_targets == 2


def test_readme_lists_every_word_and_default() -> None:
    table = README[README.index("| word |") :]
    for name, word in VOCABULARY.items():
        row = next(line for line in table.splitlines() if f"`{name}`" in line.split("|")[1])
        for option in word.options:
            assert f"`{option}`" in row
    for name, field in UNetParams.model_fields.items():
        default = field.get_default()
        rows = (
            {f"{name}.{key}": value for key, value in default} if isinstance(default, ModelParams) else {name: default}
        )
        for path, value in rows.items():
            shown = json.dumps(value).strip('"')
            assert f"| `{path}` | {shown} |" in README


def test_the_original_readmes_python_examples() -> None:
    import auralflow.models.build

    model = auralflow.models.build.AdaptiveUNet(
        max_layers=6,
        encoder=ENCODER,
        decoder=DECODER,
        bottleneck=BOTTLENECK,
        mask_activation="sigmoid",
        use_skip=True,
        targets=["vocals"],
    )
    assert model.bottleneck[0].recurrence.num_layers == 3
    u_net = auralflow.models.build.UNet(
        max_layers=6,
        init_hidden=16,
        encoder=ENCODER,
        decoder=DECODER,
        bottleneck=BOTTLENECK,
        bottleneck_layers=1,
        num_dropout=3,
        use_skip=True,
        mask_activation="sigmoid",
        normalize_input=True,
        normalize_output=False,
        targets=["vocals"],
    )
    assert isinstance(u_net, auralflow.models.build.AdaptiveUNet)
    assert auralflow.models.UNet is auralflow.models.build.UNet
    with pytest.raises(AttributeError, match="nothing"):
        _ = auralflow.models.build.nothing


def test_the_face_is_there_after_import_auralflow() -> None:
    subprocess.run([sys.executable, "-c", "import auralflow; auralflow.models.build.UNet"], check=True)


def test_without_the_plugin_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from auralflow_core.registry import Registry

    monkeypatch.setattr("auralflow_core.registry.default_registry", lambda: Registry.discover(only=[]))
    with pytest.raises(ImportError, match="`pip install auralflow-adaptive-unet`"):
        from auralflow.models.build import UNet  # noqa: F401
