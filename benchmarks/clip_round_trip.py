"""A CLIP of published size goes in, trains on real pictures, and comes out into ``transformers``.

    python benchmarks/clip_round_trip.py --torch-python=python-with-transformers \
        --root=flickr8k.tar --workdir=FOLDER

``transformers`` writes a ViT-B/32 with random tensors, ``fgmm.convert`` makes a run of it,
``configs/flickr_clip.py`` trains it with the fine-grained loss beside the published one,
``fgmm.export`` writes it in Hugging Face's layout, and ``transformers`` opens that. It prints the
largest difference of embeddings, of pictures of any size and of captions, and exits with 1 if one
passes 1e-4.
"""

import argparse
import pathlib
import re
import subprocess
import sys

import numpy as np

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
STEPS, BATCH, COMPARED = 3, 8, 4
CLOSE = 1e-4
VOCABULARY = 49408
BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch-python", help="a Python with transformers")
    parser.add_argument("--root", help="the folder or archive of Flickr8k")
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="a new folder")
    parser.add_argument("--half", choices=("made", "opened"), help="what transformers does")
    return parser.parse_args()


def made(workdir: pathlib.Path) -> None:
    """Writes a CLIP whose tensors are all random, biases and normalisations too."""
    import torch
    import transformers

    torch.manual_seed(0)
    ids = {"vocab_size": VOCABULARY, "bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1}
    config = transformers.CLIPConfig(text_config=ids, projection_dim=512)
    model = transformers.CLIPModel(config)
    with torch.no_grad():
        for name, array in model.named_parameters():
            if "norm" in name.split(".")[-2:][0] and name.endswith("weight"):
                array.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                array.normal_(0, 0.2)
            elif "embedding" in name:
                array.normal_(0, 0.03)
            elif array.ndim > 1:
                array.normal_(0, array[0].numel() ** -0.5)
    model.save_pretrained(workdir / "published")
    print(f"transformers {transformers.__version__}, torch {torch.__version__}", flush=True)


def opened(workdir: pathlib.Path) -> None:
    """Embeds the pictures and captions of ``given.npz`` with the exported model."""
    import torch
    import transformers
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = workdir / "exported"
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    with np.load(workdir / "given.npz") as given, torch.no_grad():
        pictures = [given[f"picture_{number}"] for number in range(COMPARED)]
        pixels = processor(pictures, return_tensors="pt")["pixel_values"]
        captions = given["captions"].tolist()
        tokens = tokenizer(captions, padding=True, return_tensors="pt")
        tokens.pop("token_type_ids", None)
        found = model(pixel_values=pixels, **tokens)
        embeddings = {"video": found.image_embeds.numpy(), "text": found.text_embeds.numpy()}
        np.savez(workdir / "expected.npz", scale=model.logit_scale.exp().numpy(), **embeddings)


def write_tokenizer(folder: pathlib.Path, captions: list[str]) -> None:
    """Writes a tokenizer of the captions' words, with as many ids as CLIP's."""
    import tokenizers

    words = sorted({word for caption in captions for word in re.findall(r"\w+", caption.lower())})
    words += [f"unused {number}" for number in range(VOCABULARY - 3 - len(words))]
    known = {word: number for number, word in enumerate(["unknown word", *words, BEGIN, END])}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, "unknown word"))
    model.add_special_tokens([BEGIN, END])
    model.normalizer = tokenizers.normalizers.Lowercase()
    words = tokenizers.Regex(r"\w+")
    model.pre_tokenizer = tokenizers.pre_tokenizers.Split(words, "removed", invert=True)
    model.post_processor = tokenizers.processors.TemplateProcessing(
        f"{BEGIN} $A {END}", special_tokens=[(BEGIN, known[BEGIN]), (END, known[END])]
    )
    model.save(str(folder / "tokenizer.json"))


def main() -> None:
    arguments = parse_arguments()
    workdir = arguments.workdir
    if arguments.half:
        globals()[arguments.half](workdir)
        return
    sys.path.insert(0, str(REPOSITORY))
    import fgmm
    from configs import flickr_clip
    from fgmm.convert import clip, converted, published
    from fgmm.data.sources import flickr8k
    from fgmm.experiment import build as experiments
    from fgmm.export.__main__ import export
    from fgmm.train import loop

    def in_transformers(half: str) -> None:
        command = [arguments.torch_python, str(pathlib.Path(__file__).resolve())]
        subprocess.run([*command, f"--half={half}", f"--workdir={workdir}"], check=True)

    workdir.mkdir(parents=True)
    in_transformers("made")
    source = flickr8k.Source(root=arguments.root, split="train")
    every = [caption.text for number in range(len(source)) for caption in source[number].captions]
    write_tokenizer(workdir / "published", every)
    read = published.read(workdir / "published")
    converted.write(clip.as_run(read), workdir / "clip", {"model": clip.MODEL})

    config = flickr_clip.get_config(
        f"clip={workdir / 'clip'},corpus=flickr8k,root={arguments.root},fine=fine_grained_nce,"
        f"batch={BATCH},steps={STEPS}"
    )
    config.evals, config.checkpoint.best_metric, config.checkpoint.every_steps = {}, "", 0
    experiment = experiments.build(config)
    loop.train(experiment, experiment.training_source(), workdir / "run")
    print((workdir / "run" / "metrics.jsonl").read_text())
    print("\n".join(export(workdir / "run", workdir / "exported", "huggingface", "latest")))

    model = fgmm.load(workdir / "run", batch_size=COMPARED)
    clips = [source[-1 - number] for number in range(COMPARED)]
    captions = [clip.captions[0].text for clip in clips]
    pictures = [_decoded(clip.video) for clip in clips]
    np.savez(
        workdir / "given.npz",
        captions=captions,
        **{f"picture_{number}": picture for number, picture in enumerate(pictures)},
    )
    in_transformers("opened")
    found = {"video": model.embed_image(pictures), "text": model.embed_text(captions)}
    before = fgmm.load(workdir / "clip", batch_size=COMPARED)
    untrained = {"video": before.embed_image(pictures), "text": before.embed_text(captions)}
    with np.load(workdir / "expected.npz") as expected:
        furthest = {name: np.abs(found[name] - expected[name]).max() for name in found}
    for name, difference in furthest.items():
        moved = np.abs(found[name] - untrained[name]).max()
        print(f"{name:6} {difference:.2g}; training moved them by up to {moved:.2g}")
    sys.exit(int(max(furthest.values()) > CLOSE))


def _decoded(picture: bytes) -> np.ndarray:
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


if __name__ == "__main__":
    main()
