"""BibTeX of the paper and of the data sets that its authors released rows of."""

PAPER = """\
@inproceedings{hsieh-etal-2023-distilling,
  title = {Distilling Step-by-Step! Outperforming Larger Language Models with Less Training Data
           and Smaller Model Sizes},
  author = {Hsieh, Cheng-Yu and Li, Chun-Liang and Yeh, Chih-Kuan and Nakhost, Hootan and
            Fujii, Yasuhisa and Ratner, Alex and Krishna, Ranjay and Lee, Chen-Yu and
            Pfister, Tomas},
  booktitle = {Findings of the Association for Computational Linguistics: ACL 2023},
  pages = {8003--8017},
  year = {2023},
}
"""

_CQA = """\
@inproceedings{talmor-etal-2019-commonsenseqa,
  title = {{CommonsenseQA}: A Question Answering Challenge Targeting Commonsense Knowledge},
  author = {Talmor, Alon and Herzig, Jonathan and Lourie, Nicholas and Berant, Jonathan},
  booktitle = {Proceedings of NAACL-HLT 2019},
  year = {2019},
}
@inproceedings{rajani-etal-2019-explain,
  title = {Explain Yourself! Leveraging Language Models for Commonsense Reasoning},
  author = {Rajani, Nazneen Fatema and McCann, Bryan and Xiong, Caiming and Socher, Richard},
  booktitle = {Proceedings of ACL 2019},
  year = {2019},
}
"""

DATASETS = {
    "esnli": """\
@inproceedings{camburu-etal-2018-esnli,
  title = {{e-SNLI}: Natural Language Inference with Natural Language Explanations},
  author = {Camburu, Oana-Maria and Rockt{\\"a}schel, Tim and Lukasiewicz, Thomas and
            Blunsom, Phil},
  booktitle = {Advances in Neural Information Processing Systems 31},
  year = {2018},
}
""",
    "anli1": """\
@inproceedings{nie-etal-2020-adversarial,
  title = {Adversarial {NLI}: A New Benchmark for Natural Language Understanding},
  author = {Nie, Yixin and Williams, Adina and Dinan, Emily and Bansal, Mohit and
            Weston, Jason and Kiela, Douwe},
  booktitle = {Proceedings of ACL 2020},
  year = {2020},
}
""",
    "cqa": _CQA,
    "svamp": """\
@inproceedings{patel-etal-2021-nlp,
  title = {Are {NLP} Models really able to Solve Simple Math Word Problems?},
  author = {Patel, Arkil and Bhattamishra, Satwik and Goyal, Navin},
  booktitle = {Proceedings of NAACL-HLT 2021},
  year = {2021},
}
""",
    "asdiv": """\
@inproceedings{miao-etal-2020-diverse,
  title = {A Diverse Corpus for Evaluating and Developing {English} Math Word Problem Solvers},
  author = {Miao, Shen-yun and Liang, Chao-Chun and Su, Keh-Yih},
  booktitle = {Proceedings of ACL 2020},
  pages = {975--984},
  year = {2020},
}
""",
}
