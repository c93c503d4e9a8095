"""Parameters of every published size of T5, which transformers counts too."""

# By the files of gin/models and gin/sizes: the number, and as the publication rounds it.
PUBLISHED = {
    ("t5", "t5_small"): (60_506_624, "60M"),
    ("t5", "t5_base"): (222_903_552, "220M"),
    ("t5", "t5_large"): (737_668_096, "740M"),  # the T5 paper says 770M
    ("t5", "t5_3b"): (2_851_598_336, "3B"),
    ("t5", "t5_11b"): (11_307_321_344, "11B"),
    ("t5_1_1", "small"): (76_961_152, "77M"),
    ("t5_1_1", "base"): (247_577_856, "250M"),
    ("t5_1_1", "large"): (783_150_080, "780M"),
    ("t5_1_1", "xl"): (2_849_757_184, "3B"),
    ("t5_1_1", "xxl"): (11_135_332_352, "11B"),
    ("mt5", "small"): (300_176_768, "300M"),
    ("mt5", "base"): (582_401_280, "580M"),
    ("mt5", "large"): (1_229_581_312, "1.2B"),
    ("mt5", "xl"): (3_742_619_648, "3.7B"),
    ("mt5", "xxl"): (12_921_057_280, "13B"),
    ("byt5", "byt5_small"): (299_637_760, "300M"),
    ("byt5", "byt5_base"): (581_653_248, "582M"),
    ("byt5", "byt5_large"): (1_228_183_552, "1.23B"),
    ("byt5", "byt5_xl"): (3_737_801_728, "3.74B"),
    ("byt5", "byt5_xxl"): (12_906_899_328, "12.9B"),
    ("ul2", "ul2_20b"): (19_591_209_984, "20B"),
}
FLAN_T5 = ("small", "base", "large", "xl", "xxl")
PUBLISHED |= {("flan_t5", size): PUBLISHED["t5_1_1", size] for size in FLAN_T5}
