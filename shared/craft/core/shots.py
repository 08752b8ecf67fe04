"""Built-in few-shot examples, written for this product and not taken from an evaluated dataset."""

from craft.core.questions import ChoiceQuestion, OpenQuestion

DEFAULT_OPEN_SHOTS: tuple[OpenQuestion, ...] = (
    OpenQuestion("shot_open_spider", "How many legs does a spider have?", ("8", "eight")),
    OpenQuestion("shot_open_bees", "Which insect makes honey?", ("Bees", "bee", "honeybee")),
    OpenQuestion("shot_open_ice", "What does ice turn into when it melts?", ("Water",)),
)

DEFAULT_CHOICE_SHOTS: tuple[ChoiceQuestion, ...] = (
    ChoiceQuestion(
        "shot_choice_triangle", "How many sides does a triangle have?", ("Two", "Five", "Three", "Six"), 2, "geometry"
    ),
    ChoiceQuestion(
        "shot_choice_sun",
        "Which of these gives the Earth most of its light?",
        ("The Sun", "The Moon", "Lightning", "Volcanoes"),
        0,
        "astronomy",
    ),
    ChoiceQuestion(
        "shot_choice_thermometer",
        "Which tool measures temperature?",
        ("A ruler", "A compass", "A clock", "A thermometer"),
        3,
        "everyday science",
    ),
    ChoiceQuestion(
        "shot_choice_fish",
        "Which body part lets a fish breathe under water?",
        ("Its fins", "Its gills", "Its scales", "Its tail"),
        1,
        "biology",
    ),
    ChoiceQuestion(
        "shot_choice_piano",
        "Which of these instruments has black and white keys?",
        ("The violin", "The drum", "The piano", "The flute"),
        2,
        "music",
    ),
)
