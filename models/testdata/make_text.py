"""Writes `text.jsonl`: made-up texts, their token ids by Hugging Face's tokenizers, and for some their vectors by ONNX Runtime.

    python models/testdata/make_text.py ENCODER_FOLDER

The Go tests hold models/text.go to it. Needs tokenizers, onnxruntime and numpy.
"""

import json
import random
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

OUT = Path(__file__).parent / "text.jsonl"
VECTORS = 10  # of the first texts

SHOP = [
    "Waterproof hiking boots, size 42. Northpeak. Outdoor, Shoes. Leather upper and a Vibram-like sole for wet trails",
    "Espresso machine 15 bar with milk frother",
    "The Silent Harbour. Drama, Crime. A lighthouse keeper finds a letter that was never meant for him",
    "USB-C cable (2 m), 100W, braided",
    "Children's raincoat with dinosaur print",
    "Cordless drill 18V/4.0Ah + 2 batteries & charger",
    "Bluetooth-Lautsprecher mit 24 h Akkulaufzeit",
    "T-shirt 100% cotton, unisex, $19.99",
    "noise-cancelling headphones",
    "a",
]
ACCENTS = [
    "Crème brûlée à la française", "naïve café résumé", "Ångström and Øresund", "São Paulo, Brasil: pão de açúcar", "Zażółć gęślą jaźń",
    "İstanbul'da ışık, ILIK ve ılık", "ΟΔΥΣΣΕΥΣ Σίσυφος και ΣΑΣ", "STRASSE Straße ẞ", "Dvořák: Příliš žluťoučký kůň", "Tiếng Việt có dấu thanh",
    "éééé decomposed", "ǅ ǈ ǋ ŉ ﬁ ﬂ ﬀ", "Ёлка и ёж, Їжак, Ґанок", "ἄνδρα μοι ἔννεπε, μοῦσα", "ñ Ñ ü Ü", "Ｆｕｌｌｗｉｄｔｈ　ｔｅｘｔ １２３", "a\u0300\u0301\u0302b", "½ ¼ ² ³ ™ ℃ № ﷺ",
]
CJK = [
    "防水登山靴 42码", "这是一个商品描述。包含标点，和English混排123", "日本語のテスト：ひらがな、カタカナ、漢字", "한국어 문장입니다. 품질이 좋아요!", "繁體中文測試「引號」",
    "ﾊﾝｶｸ ｶﾀｶﾅ", "\U00020000\U0002A6DF rare \U0002B740", "你好，世界！", "東京タワーTokyo333m", "㐀䶵豈", "價格：￥199（含稅）", "ภาษาไทยไม่มีช่องว่าง", "हिन्दी में लिखा हुआ", "مرحبا بالعالم، كيف الحال؟", "שָׁלוֹם עולם",
    "தமிழ் மொழி", "ქართული ენა", "አማርኛ", "ລາວ ພາສາ", "བོད་ཡིག",
]
EMOJI = [
    "great 👍👍 product 😀", "👨‍👩‍👧‍👦 family", "🏳️‍🌈 flag 🇩🇪🇫🇷", "☕️ coffee ☕", "heart ❤️ and ❤", "🤌🏽 skin tone", "🫠 melting 🩷 pink", "★★★★☆ 4/5", "→ ← ↑ ↓ ∑ ∞ ≠ ≤", "emoji😀inside😀words", "1️⃣2️⃣", "♥♦♣♠ ♪♫",
]
NUMBERS = [
    "3.14159265358979", "1,234,567.89", "-40 °C", "2026-11-23T10:00:00.123Z", "0x1F600", "10^6 10⁶ 10₆", "+49 (0)30 1234-567", "v1.2.3-rc.4+build.5", "192.168.0.1:8080", "12345678901234567890123456789012345", "٣٤٥ ۳۴۵ 三百", "Ⅷ ⅷ ①②③", "50%off", "1st 2nd 3rd 42nd", "1e-9",
]
ODD = [
    " ", "   leading and trailing   ", "tab\tnewline\ncarriage\rreturn", "nul\x00inside", "bell\x07 and \x1b[31mred\x1b[0m", "zero\u200bwidth\u200cjoiner\u200d\ufeffmarks", "non\u00a0breaking\u2009thin\u3000wide",
    "line\u2028separator\u2029paragraph", "soft\u00adhyphen", "\ufffdreplacement\ufffd", "private\ue000use", "[CLS] in the text [SEP]", "a[MASK]b [UNK] [PAD]", "[cls] [Sep] [MASK", "[[SEP]]", "##ing ##s # #", "under_score-dash—em–en…",
    "\"quotes\" 'single' “curly” ‘curly’ «guillemets» „low“", "a" * 100, "a" * 101, "é" * 100, "é" * 101, "x" * 99 + " y", "don't can't I'm we've", "C++ C# F# .NET node.js", "http://example.test/a?b=c&d=e#f", "me@example.test", "<b>bold</b> &amp; &lt;", "{\"json\": [1, 2, null]}",
    "SELECT * FROM t WHERE a='b';--", "\\backslash\\ /slash/ |pipe|", "^caret ~tilde `tick`", "$ € £ ¥ ₹ ₿ ¢", "combining x̸ y̶ z̲", "‮right to left‬", "\u061carabic mark", "\U000e0041tag", "mixed\u0660\u0966digits", "unaffable unaffableness antidisestablishmentarianism",
    "supercalifragilisticexpialidocious", "zzzzqqqqxxxx", "ａｂｃ", "𝓼𝓬𝓻𝓲𝓹𝓽 𝔊𝔬𝔱𝔥𝔦𝔠", "\u0345\u0301", "ͅ", "\u1e9e\u0130\u0131", "Ǆ Ǉ", "\u1abf new mark a\u1abf", "\u2e52x\u2e53 late punctuation", "\ua7cbword", "؝ ؜", "x\u07fdy", "᭽ ᱿", "\u166dx",
]  # fmt: skip


def long_texts(rng):
    words = ("river stone amber quiet engine lantern copper meadow 7 harvest — signal, velvet Ünder glass 市 orbit’s "
             "harbour-light (north) tide; ember willow 3.5 saffron marble drift unhurried thistle").split()  # fmt: skip
    for n in (60, 120, 125, 126, 127, 128, 150, 300, 300, 1000):
        yield " ".join(rng.choice(words) for _ in range(n))
    yield "长" * 300
    yield "word" * 300
    yield ". " * 200


def mixtures(rng, parts, n):
    """Random cuts of everything, glued with random white space: what nobody would think of."""
    for _ in range(n):
        cuts = []
        for _ in range(rng.randint(1, 6)):
            p = rng.choice(parts)
            a = rng.randrange(len(p) + 1)
            cuts.append(p[a : a + rng.randint(1, 25)])
        yield rng.choice(["", " ", "  ", "\t", "-", "\u00a0"]).join(cuts)


def main():
    folder, rng = Path(sys.argv[1]), random.Random(11)
    texts = SHOP + [""] + ACCENTS + CJK + EMOJI + NUMBERS + ODD
    texts += list(mixtures(rng, texts, 160)) + list(long_texts(rng))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    with OUT.open("w", encoding="ascii") as f:
        for i, text in enumerate(texts):
            row = {"text": text, "ids": tokenizer.encode(text).ids}
            if i < VECTORS:
                ids = np.array([row["ids"]], np.int64)
                feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
                row["vector"] = [round(float(v), 6) for v in session.run(["sentence_embedding"], feed)[0][0]]
            f.write(json.dumps(row, separators=(",", ":")) + "\n")
    print(f"{len(texts)} texts")


if __name__ == "__main__":
    main()
