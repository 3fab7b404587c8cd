import pytest

from helpers.settings import generate_settings
from helpers.training import devices


def settings_for(precision):
    return generate_settings(1, base_filters=2, input_size=8, precision=precision)


@pytest.mark.parametrize(("names", "kind"), [(["cpu:0"], "CPU"), (["cpu:0", "gpu:0"], "GPU")])
def test_a_chosen_precision_is_used_without_probing_and_the_device_is_said(
    monkeypatch, names, kind
):
    monkeypatch.setattr("keras.distribution.list_devices", lambda: names)
    monkeypatch.setattr(devices, "measure_bfloat16_gain", lambda: pytest.fail("probed"))
    device = devices.choose_device(settings_for("mixed_float16"))
    assert device.precision == "mixed_float16"
    assert str(device).startswith(f"{kind} · Keras on {device.backend} · mixed_float16 (as the")


@pytest.mark.parametrize(
    ("has", "gain", "expected"),
    [(True, 1.0, "float32"), (True, devices.WORTH_IT, "mixed_bfloat16"), (False, None, "float32")],
)
def test_bfloat16_is_chosen_only_where_it_pays(monkeypatch, has, gain, expected):
    monkeypatch.setattr("keras.distribution.list_devices", lambda: ["cpu:0"])
    monkeypatch.setattr(devices, "has_bfloat16", lambda: has)
    probe = (lambda: gain) if has else (lambda: pytest.fail("probed"))
    monkeypatch.setattr(devices, "measure_bfloat16_gain", probe)
    assert devices.choose_device(settings_for("auto")).precision == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512_bf16 sse\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("model name\t: bf16\nflags\t\t: fpu avx2\n", False),
        (None, False),
    ],
)
def test_bfloat16_instructions_are_read_from_the_system(tmp_path, text, expected):
    file = tmp_path / "cpuinfo"
    if text:
        file.write_text(text)
    assert devices.has_bfloat16(file) is expected
