"""Make the small models beside this file, and what the libraries that they are of answer with them.

    python make.py hugging_face     # in an environment with torch and transformers
    python make.py keras_hub        # in an environment with keras-hub
    python make.py real FOLDER      # in that of the first: what a model with real weights answers, all-MiniLM-L6-v2

Weights of the small ones are random, and tokenizers learnt from the texts below: nothing is downloaded.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
TEXTS = [
    "The service was friendly, and the food unbelievably good!",
    "Never again: 90 minutes for a cold soup; the waiter didn't care.",
    "Crème brûlée, naïve ÅNGSTRÖM, 日本語 and emoji 😀👍🏽.",
    "",
    "good good good food food food " * 8,
]
LENGTH = 24


def hugging_face() -> None:
    """BERT, DistilBERT and RoBERTa."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    def wordpiece() -> Tokenizer:
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
        made.train_from_iterator(TEXTS, trainer)
        ends = [("[CLS]", 2), ("[SEP]", 3)]
        made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
        made.decoder = decoders.WordPiece()
        return made

    def byte_pairs() -> Tokenizer:
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=330,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        made.train_from_iterator(TEXTS, trainer)
        ends = [("<s>", 0), ("</s>", 2)]
        made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
        made.decoder = decoders.ByteLevel()
        return made

    def save(name: str, model: torch.nn.Module, tokenizer: Tokenizer, padding: int) -> None:
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.3)
        model.eval().save_pretrained(HERE / name)
        tokenizer.save(str(HERE / name / "tokenizer.json"))
        tokenizer.enable_truncation(LENGTH)
        tokenizer.enable_padding(length=LENGTH, pad_id=padding, pad_token=tokenizer.id_to_token(padding))
        tokens = [tokenizer.encode(text).ids for text in TEXTS]
        ids = torch.tensor(tokens)
        mask = (ids != padding).long()
        with torch.no_grad():
            vectors = model(input_ids=ids, attention_mask=mask).last_hidden_state
        means = (vectors * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        write_expected(name, tokens, means.numpy())

    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 16}
    tokenizer = wordpiece()
    size = tokenizer.get_vocab_size()
    bert = transformers.BertConfig(vocab_size=size, max_position_embeddings=32, **sizes)
    save("bert", transformers.BertModel(bert), tokenizer, 0)
    tokenizer = wordpiece()
    own = {"n_layers": 2, "n_heads": 2, "dim": 8, "hidden_dim": 16}
    distilbert = transformers.DistilBertConfig(vocab_size=size, max_position_embeddings=32, **own)
    save("distilbert", transformers.DistilBertModel(distilbert), tokenizer, 0)
    tokenizer = byte_pairs()
    roberta = transformers.RobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=34,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        **sizes,
    )
    save("roberta", transformers.RobertaModel(roberta), tokenizer, 1)


def keras_hub() -> None:
    """The same kinds, with the vocabularies of those of Hugging Face."""
    import keras
    from keras_hub import models

    def save(name: str, model: keras.Model, tokenizer: object, other: str) -> None:
        random = np.random.default_rng(0)
        for weight in model.weights:
            weight.assign(random.normal(size=weight.shape) * 0.3 + ("gamma" in weight.path))
        model.save_to_preset(str(HERE / name))
        tokenizer.save_to_preset(str(HERE / name))
        expected = json.loads((HERE / other / "expected.json").read_text())
        tokens = np.array(expected["tokens"])
        mask = tokens != (1 if other == "roberta" else 0)
        inputs = {"token_ids": tokens, "padding_mask": mask}
        if "segment_ids" in model.input:
            inputs["segment_ids"] = np.zeros_like(tokens)
        found = model.predict(inputs, verbose=0)
        vectors = found["sequence_output"] if isinstance(found, dict) else found
        means = (vectors * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        write_expected(name, expected["tokens"], means)

    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16, "max_sequence_length": 32}
    document = json.loads((HERE / "bert" / "tokenizer.json").read_text())["model"]
    words = sorted(document["vocab"], key=document["vocab"].get)
    for name, kind in {"BertBackbone": "Bert", "DistilBertBackbone": "DistilBert"}.items():
        model = getattr(models, name)(vocabulary_size=len(words), **sizes)
        tokenizer = getattr(models, f"{kind}Tokenizer")(vocabulary=words, lowercase=True, strip_accents=True)
        save(f"keras_hub_{kind.lower()}", model, tokenizer, "bert")
    document = json.loads((HERE / "roberta" / "tokenizer.json").read_text())["model"]
    merges = [" ".join(pair) for pair in document["merges"]]
    model = models.RobertaBackbone(vocabulary_size=len(document["vocab"]), **sizes)
    tokenizer = models.RobertaTokenizer(vocabulary=document["vocab"], merges=merges)
    save("keras_hub_roberta", model, tokenizer, "roberta")


def real(folder: str) -> None:
    """A model of somebody else; only what it answers is kept."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    found = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    mask = found["attention_mask"]
    with torch.no_grad():
        vectors = model(input_ids=found["input_ids"], attention_mask=mask).last_hidden_state
    means = (vectors * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
    document = {
        "texts": TEXTS,
        "tokens": found["input_ids"].tolist(),
        "vectors": np.round(means.numpy().astype(float), 6).tolist(),
    }
    (HERE / "all-minilm-l6-v2.json").write_text(json.dumps(document, ensure_ascii=False))


def write_expected(name: str, tokens: list[list[int]], vectors: np.ndarray) -> None:
    """What the model's own library answers."""
    document = {"texts": TEXTS, "tokens": tokens, "vectors": np.round(vectors.astype(float), 6).tolist()}
    (HERE / name / "expected.json").write_text(json.dumps(document, ensure_ascii=False))


if __name__ == "__main__":
    {"hugging_face": hugging_face, "keras_hub": keras_hub, "real": real}[sys.argv[1]](*sys.argv[2:])
