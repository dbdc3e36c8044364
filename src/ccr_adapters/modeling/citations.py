"""What to cite for an adapter and the method that trained it, as BibTeX; a card shows those that apply."""

from __future__ import annotations

CITATIONS = {
    "dasd": """\
@inproceedings{cai2025dasd,
  title     = {Dynamic Adapter with Semantics Disentangling for Cross-lingual Cross-modal Retrieval},
  author    = {Cai, Rui and Dong, Zhiyu and Dong, Jianfeng and Wang, Xun},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  year      = {2025},
  note      = {arXiv:2412.13510}
}""",
    "cl2cm": """\
@inproceedings{wang2024cl2cm,
  title     = {{CL2CM}: Improving Cross-Lingual Cross-Modal Retrieval via Cross-Lingual Knowledge Transfer},
  author    = {Wang, Yabing and Wang, Fan and Dong, Jianfeng and Luo, Hao},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  year      = {2024},
  note      = {arXiv:2312.08984}
}""",
    "nrccr": """\
@inproceedings{wang2022nrccr,
  title     = {Cross-Lingual Cross-Modal Retrieval with Noise-Robust Learning},
  author    = {Wang, Yabing and Dong, Jianfeng and Liang, Tianxiang and Zhang, Minsong and Cai, Rui and Wang, Xun},
  booktitle = {Proceedings of the 30th ACM International Conference on Multimedia},
  year      = {2022},
  note      = {arXiv:2208.12526}
}""",
    "mla": """\
@article{zhang2022mla,
  title   = {Generalizing Multimodal Pre-training into Multilingual via Language Acquisition},
  author  = {Zhang, Liang and Hu, Anwen and Jin, Qin},
  journal = {arXiv preprint arXiv:2206.11091},
  year    = {2022}
}""",
    "lora": """\
@inproceedings{hu2022lora,
  title     = {{LoRA}: Low-Rank Adaptation of Large Language Models},
  author    = {Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, Yuanzhi and Wang, Shean
               and Wang, Lu and Chen, Weizhu},
  booktitle = {International Conference on Learning Representations},
  year      = {2022},
  note      = {arXiv:2106.09685}
}""",
}


def citations(*names: str) -> list[str]:
    """Entries of the names that have one, each once."""
    return [CITATIONS[name] for name in dict.fromkeys(names) if name in CITATIONS]
