"""Texts with what Unicode has that is odd, for tokenizers and whatever else reads text."""

import random
import unicodedata

TEXTS = [
    "",
    " ",
    "\t\n\r",
    "Hello, World!",
    "The quick brown fox jumps over the lazy dog.",
    "don't can't won't I'm you've we'll they'd it's  IT'S I'D 'tis ''quoted'' 's 'S \u2019s it\u2019s",
    "unaffable unbelievableness antidisestablishmentarianism",
    "naïve café résumé ÅNGSTRÖM İstanbul \u0131Ißẞ",
    "e\u0301 a\u0308\u0304 \u0301 alone a\u0300\u0301\u0302b \u0345\u0344 \u0149 Ǆ",
    "汉字和日本語カタカナ한국어 mixed漢字text 가각갂 힣",
    "עברית ימין לשמאל العربية مَرْحَبًا",
    "emoji 😀👍🏽👨\u200d👩\u200d👧\u200d👦🇩🇪 ❤️ 🀄🫠 end",
    "zero\u200bwidth\u200djoin\ufeffers \u00adsoft",
    "a\x00b\x01c\x1fd\x7fe \x85next\x0bvt\x0cff\x1cfs",
    "tabs\tnew\nlines\r\nend\n\n\nbaz \t qux\n",
    "   many   spaces   ",
    "line\u2028sep\u2029para\u00a0nbsp\u3000wide\u2003em\u1680og\u202fhere\u205fmath",
    "$9.99 + 5% = ~10; <a href='x'>b</a> #tag @user _under_ ^caret `tick` |pipe|",
    "≠≮≯ \u037e\u1fef ¿qué? «quoted» – — … \u2018single\u2019 “double”",
    *("x" * size for size in (99, 100, 101, 300)),
    "supercalifragilistic" * 20,
    "[CLS] [SEP] [MASK] [PAD] [UNK] <s> ##ing",
    "...!!!???",
    "\ufffd\ufffd",
    "ﬁ ﬂ ½ ² ₂ Ⅷ ① K Å \u211d ١٢٣ ๔๕ ⅕ 3²",
    "ΣΊΣΥΦΟΣ Ελληνικά Русский ЁЖИК Й й",
    "हिन्दी देवनागरी ไทยภาษา ខ្មែរ မြန်မာ",
    "\ue000private\uf8ff",
    "\U0001d49c\U0001d4c3\U0001d4b8\U0001d4be\U0001d452\U0001d4c3\U0001d4c9",
    "\U0001d518\U0001d52b\U0001d526\U0001d520\U0001d52c\U0001d521\U0001d522 𐍈 𠀀𪜀",
    "http://example.org/a?b=c&d=e#f foo@bar.com 192.168.0.1 2024-01-02T03:04:05Z",
    "word " * 600,
    "\u3000全角\u3000スペース",
    "1234567890" * 4,
]
NO_UTF8 = [
    b"\xff\xfe",
    b"abc\xffdef",
    b"cut off \xe2\x82",
    b"\xed\xa0\x80surrogate",
    b"overlong\xc0\xaf",
    b"\xf4\x90\x80\x80",
    b"good \xc3\xa9 bad \xc3 end",
    b"\xf0\x9f\x98a\xe2b",
    b"\x80\x80\x80",
]


def random_texts(number: int) -> list[str]:
    """Letters, mostly, and among them any character of the first three planes that Unicode has assigned."""
    choice = random.Random(0)
    alphabets = [
        lambda: chr(choice.randrange(32, 127)),
        lambda: chr(choice.randrange(0xA0, 0x3000)),
        lambda: chr(choice.choice([*range(0x3000, 0xD800), *range(0xE000, 0xFFFE)])),
        lambda: chr(choice.randrange(0x10000, 0x2FFFF)),
        lambda: " ",
        *[lambda: choice.choice("aeioutnsr")] * 3,
    ]
    found = ("".join(choice.choice(alphabets)() for _ in range(choice.randrange(60))) for _ in range(number))
    return ["".join(c for c in text if unicodedata.category(c) != "Cn") for text in found]
