"""The parts of a recipe, as typed data. Importing this needs no torch."""

from reid_train.recipe.schema.expected import Expected, Published
from reid_train.recipe.schema.model import Head, Input, Model, Teacher, Text
from reid_train.recipe.schema.part import Count, Options, Part, Share
from reid_train.recipe.schema.recipe import Recipe, Suits, Test
from reid_train.recipe.schema.stage import (
    DATA_KINDS,
    MEMORIES,
    SCHEDULE_KINDS,
    Augment,
    Constant,
    Cosine,
    Features,
    Hook,
    IdentityBatches,
    Loss,
    OneCycle,
    Optimiser,
    Sampled,
    Scheduled,
    Shuffled,
    Stage,
    WarmupMultistep,
)

__all__ = [
    "DATA_KINDS",
    "MEMORIES",
    "SCHEDULE_KINDS",
    "Augment",
    "Constant",
    "Cosine",
    "Count",
    "Expected",
    "Features",
    "Head",
    "Hook",
    "IdentityBatches",
    "Input",
    "Loss",
    "Model",
    "OneCycle",
    "Optimiser",
    "Options",
    "Part",
    "Published",
    "Recipe",
    "Sampled",
    "Scheduled",
    "Share",
    "Shuffled",
    "Stage",
    "Suits",
    "Teacher",
    "Test",
    "Text",
    "WarmupMultistep",
]
