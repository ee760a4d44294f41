"""CLIP models from local files, beside open_clip's own loading of the same files."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from thresher.schemas.contracts import AssetError
from thresher.scorers.assets import LocalAssets
from thresher.scorers.clip.captions import readable
from thresher.scorers.clip.model import Clip, clip_assets, load_clip

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("open_clip")

CAPTIONS = ["a red bird", "Zwei V\u00f6gel &amp; 1 Ei\n", "", "a red bird", "word " * 400]
PIXELS = np.random.default_rng(5).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)


def loaded(folder: Path, **options: Any) -> Clip:
    return load_clip(folder.name, None, LocalAssets([folder.parent]), **{"device": "cpu", **options})


def of_open_clip(folder: Path) -> tuple[Any, Any, Any]:
    """open_clip's network, transform and tokenizer for a folder."""
    from thresher.scorers.clip.packages import import_open_clip

    open_clip = import_open_clip()
    network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return network.eval(), transform, open_clip.get_tokenizer(f"local-dir:{folder}")


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection is made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("_no_network")
@pytest.mark.parametrize("model", ["small_clip", "small_siglip"])
def test_embeddings_are_those_of_open_clip(model: str, request: pytest.FixtureRequest) -> None:
    from PIL import Image

    folder = request.getfixturevalue(model)
    network, transform, tokenizer = of_open_clip(folder)
    with torch.no_grad():
        shown = torch.stack([transform(Image.fromarray(pixels)) for pixels in PIXELS])
        images = network.encode_image(shown, normalize=True).numpy()
        texts = network.encode_text(tokenizer(CAPTIONS), normalize=True).numpy()
    clip = loaded(folder, precision="fp32")
    tokens = clip.tokenize(CAPTIONS)
    assert tokens.dtype == np.int32
    np.testing.assert_array_equal(tokens, tokenizer(CAPTIONS).numpy())
    np.testing.assert_allclose(clip.encode_images(PIXELS), images, atol=1e-6)
    np.testing.assert_allclose(clip.encode_texts(tokens), texts, atol=1e-6)
    assert clip.logit_scale == pytest.approx(network.logit_scale.exp().item())
    assert (clip.logit_bias is None) == (network.logit_bias is None)
    assert (clip.dimensions, clip.image_size, clip.context) == (16, (32, 32), 16)


def test_half_precision_is_near_and_leaves_scale_and_bias_alone(small_siglip: Path) -> None:
    whole, half = loaded(small_siglip, precision="fp32"), loaded(small_siglip, precision="bf16")
    np.testing.assert_allclose(half.encode_images(PIXELS), whole.encode_images(PIXELS), atol=2e-2)
    tokens = whole.tokenize(CAPTIONS)
    np.testing.assert_allclose(half.encode_texts(tokens), whole.encode_texts(tokens), atol=2e-2)
    assert (half.logit_scale, half.logit_bias) == (whole.logit_scale, whole.logit_bias)


def test_a_configuration_and_a_checkpoint_are_the_folder_that_has_both(
    small_clip: Path, small_config: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "small.json").write_text(json.dumps(small_config))
    shutil.copy(small_clip / "open_clip_model.safetensors", tmp_path / "weights.safetensors")
    assets = LocalAssets([tmp_path])
    clip = load_clip("small.json", "weights.safetensors", assets, device="cpu", precision="fp32")
    whole = loaded(small_clip, precision="fp32")
    tokens = whole.tokenize(CAPTIONS)
    np.testing.assert_array_equal(clip.encode_texts(tokens), whole.encode_texts(tokens))
    # What the folder says of preprocessing the bare configuration does not: then it is OpenAI's.
    assert whole.preprocessing.std == (0.3, 0.25, 0.2)
    assert clip.preprocessing.std == pytest.approx((0.26862954, 0.26130258, 0.27577711))


def test_an_architecture_by_name_gets_the_preprocessing_that_all_its_known_weights_have() -> None:
    from thresher.scorers.clip.architecture import architecture_of

    class Anywhere:
        def locate(self, name: str) -> Path:
            return Path(name)

    sigmoid = architecture_of("ViT-B-16-SigLIP", "weights.safetensors", Anywhere())
    assert sigmoid.preprocess_cfg["resize_mode"] == "squash"
    assert tuple(sigmoid.preprocess_cfg["mean"]) == (0.5, 0.5, 0.5)
    # OpenAI's weights and some of LAION's were trained on pixels normalised in different ways.
    mixed = architecture_of("ViT-L/14", "weights.safetensors", Anywhere())
    assert "mean" not in mixed.preprocess_cfg
    assert mixed.model_cfg["embed_dim"] == 768


def test_the_files_that_a_model_is_made_of_are_named_without_loading_it() -> None:
    assert clip_assets("filter") == ("filter",)
    assert clip_assets("ViT-B-32", "b32.safetensors") == ("b32.safetensors",)
    assert clip_assets("own.json", "own.safetensors") == ("own.json", "own.safetensors")


def test_what_is_no_model_is_told_from_what_is(small_clip: Path, tmp_path: Path) -> None:
    assets = LocalAssets([tmp_path])
    weights = tmp_path / "weights.safetensors"
    shutil.copy(small_clip / "open_clip_model.safetensors", weights)
    for model, checkpoint, told in [
        ("ViT-B-32", None, "name its weights as `checkpoint`"),
        ("ViT-B-33", weights.name, "near it are ViT-B-32"),
        ("ViT-B-32", "gone.safetensors", "no model file"),
        ("roberta-ViT-B-32", weights.name, "text tower is roberta-base"),
    ]:
        with pytest.raises(AssetError, match=told):
            load_clip(model, checkpoint, assets, device="cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AssetError, match=r"open_clip_config\.json"):
        load_clip("empty", None, assets)
    (tmp_path / "pickled.safetensors").write_bytes(b"\x80\x02.")
    with pytest.raises(AssetError, match="pickle"):
        load_clip("ViT-B-32", "pickled.safetensors", assets)
    with pytest.raises(AssetError, match="no device"):
        loaded(small_clip, device="nonsense")


def test_weights_of_another_architecture_are_refused_by_name(
    small_clip: Path, small_config: dict[str, Any], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(small_clip, tmp_path / "model")
    weights = tmp_path / "model" / "open_clip_model.safetensors"
    tensors = load_file(weights)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("visual.ln_post")}
    save_file({**kept, "visual.extra": tensors["visual.proj"].clone()}, weights)
    with pytest.raises(AssetError, match=r"lacks visual\.ln_post\.bias.* also has visual\.extra"):
        loaded(tmp_path / "model")
    config = {**small_config, "embed_dim": 24}
    (tmp_path / "model" / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    save_file(tensors, weights)
    with pytest.raises(AssetError, match="size mismatch for"):
        loaded(tmp_path / "model")
    weights.write_bytes(b"not tensors at all")
    with pytest.raises(AssetError, match="no file of safetensors"):
        loaded(tmp_path / "model")


def test_a_pickle_beside_the_configuration_is_never_read(small_clip: Path, tmp_path: Path) -> None:
    shutil.copytree(small_clip, tmp_path / "model")
    (tmp_path / "model" / "open_clip_model.safetensors").rename(tmp_path / "model" / "open_clip_model.bin")
    with pytest.raises(AssetError, match=r"has no open_clip_model\.safetensors"):
        loaded(tmp_path / "model")


@pytest.mark.usefixtures("_no_network")
def test_the_tokenizer_of_hugging_face_is_read_from_the_folder_or_not_at_all(
    write_model: Callable[..., Path], small_config: dict[str, Any], tmp_path: Path
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    pytest.importorskip("transformers")
    text = {
        **small_config["text_cfg"],
        "hf_tokenizer_name": "someone/somewhere",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    }
    folder = write_model(tmp_path / "model", {**small_config, "text_cfg": text}, {"size": 32})
    clip = loaded(folder)
    assert clip.encode_images(PIXELS).shape == (7, 16)
    with pytest.raises(AssetError, match=r"nothing is downloaded; fetch .* tokenizer\.json"):
        clip.open_tokenizer()
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "red": 3, "bird": 4}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    found = loaded(folder).tokenize(["Red, BIRD!", "no bird"])
    np.testing.assert_array_equal(found[:, :4], [[3, 4, 0, 0], [2, 4, 0, 0]])
    assert found.shape == (2, 16)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(
    write_model: Callable[..., Path], small_config: dict[str, Any], tmp_path: Path
) -> None:
    text = {**small_config["text_cfg"], "vocab_size": 100}
    folder = write_model(tmp_path / "model", {**small_config, "text_cfg": text}, {"size": 32})
    with pytest.raises(AssetError, match="has 49408 tokens, and the model knows 100"):
        loaded(folder).tokenize(["a"])


def test_of_captions_beyond_the_context_nothing_is_read_that_could_not_be(small_clip: Path) -> None:
    long = "a heron and a goose, " * 60
    hostile = "aeiouxyz" * 40_000
    assert readable(long) == " ".join(long.split())
    assert readable(long * 20) == " ".join((long * 20).split())[:4096]
    assert len(readable(hostile)) == 512
    clip = loaded(small_clip)
    _, _, tokenizer = of_open_clip(small_clip)
    np.testing.assert_array_equal(clip.tokenize([long * 20]), tokenizer([long * 20]).numpy())
    assert clip.tokenize([hostile]).shape == (1, 16)


def test_a_model_that_overflows_says_so(small_clip: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(small_clip, tmp_path / "model")
    weights = tmp_path / "model" / "open_clip_model.safetensors"
    tensors = load_file(weights)
    save_file({**tensors, "visual.proj": tensors["visual.proj"] * float("nan")}, weights)
    with pytest.raises(ValueError, match="precision: fp32"):
        loaded(tmp_path / "model").encode_images(PIXELS)
