"""What is said in the demo corpora: sentences put together from phrases, so that hardly any occurs twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["COMMITMENT", "EMOTION_SENTENCES", "TRAIT_SENTENCES", "commitment", "sentence", "traits"]

_TOPICS = (
    "the trip to the coast", "my new job", "the school play", "our old house", "the exam", "the garden", "the meeting",
    "that phone call", "my sister's wedding", "the football match", "the letter", "the new neighbours", "the concert",
    "the kitchen", "the bus ride", "the report", "the dinner last night", "the film", "the train station", "my bicycle",
    "the photographs", "the hospital visit", "the party", "the interview", "the dog", "the market", "the apartment",
    "the library", "the weather", "the bill",
)  # fmt: skip
_PEOPLE = (
    "my sister", "my brother", "the manager", "our teacher", "my friend Ana", "the doctor", "my uncle", "the driver",
    "a colleague", "the woman next door", "my cousin", "the coach", "a stranger", "my grandmother", "the waiter",
)  # fmt: skip
_TIMES = (
    "this morning", "last night", "on Monday", "last week", "yesterday", "over the weekend", "two days ago",
    "in the afternoon", "after work", "before lunch", "on the way home", "in spring",
)  # fmt: skip
_HABITS = (
    "drinking less alcohol", "walking to work", "eating more vegetables", "going to bed early", "quitting cigarettes",
    "running twice a week", "cutting out sugar", "turning off my phone at night", "cooking at home",
    "taking the stairs", "seeing the counsellor", "drinking more water", "swimming on Fridays", "saving some money",
    "checking my blood pressure", "giving up soft drinks", "stretching every morning", "spending less time online",
)  # fmt: skip
_SLOTS: Mapping[str, Sequence[str]] = {"topic": _TOPICS, "who": _PEOPLE, "when": _TIMES, "habit": _HABITS}

EMOTION_SENTENCES: Mapping[str, Sequence[str]] = {
    "Neutral": (
        "{when} {who} asked about {topic}", "{who} has the papers for {topic}", "{topic} starts at nine o'clock",
        "we talked about {topic} {when}", "{who} came by {when} with a key", "there are two rooms and {topic} as well",
        "I put {topic} on the list {when}", "{topic} is on the second page", "{who} will be there around noon",
    ),
    "Happiness": (
        "I am so happy about {topic}", "{who} made me laugh so much {when}", "I loved every minute of {topic}",
        "{topic} was wonderful and we celebrated with {who}", "it feels great, {topic} is a real joy",
        "we had so much fun with {who} {when}", "I am delighted, {topic} went perfectly",
        "what a lovely day, {who} and I were smiling all the way", "I am thrilled with {topic}",
    ),
    "Sadness": (
        "I cried because of {topic}", "I miss {who} so much", "it is so lonely without {who}",
        "{topic} broke my heart {when}", "{who} died {when} and I feel empty", "I lost {topic} and I am grieving",
        "I have been so sad since {topic}", "nothing comforts me, {topic} is gone", "I feel hopeless about {topic}",
    ),
    "Anger": (
        "I am furious about {topic}", "{who} lied to me and I am so angry", "how dare {who} ruin {topic}",
        "{who} yelled at me {when} and I shouted back", "it is an outrage, {topic} makes me mad",
        "I am sick of {who} blaming me", "{who} insulted me {when}, I could have smashed something",
        "stop it, {topic} is unfair and I am livid", "I hate how {who} treats us",
    ),
    "Fear": (
        "I am terrified of {topic}", "I was so scared {when}, I could not move", "{who} was following me, I panicked",
        "I am afraid that something bad happens at {topic}", "my hands were shaking, I feared for {who}",
        "{topic} frightens me, I cannot sleep", "I am worried sick about {who}", "there was a threat {when}, I hid",
        "I dread {topic}, it is dangerous",
    ),
    "Disgust": (
        "{topic} smelled rotten, it was revolting", "{who} spat on the floor, how disgusting",
        "there was mould all over {topic}", "it was gross, {who} chewed with an open mouth",
        "{topic} made me want to vomit", "the filthy toilet {when} turned my stomach", "yuck, {topic} was all slimy",
        "I am repulsed by {who}", "the food {when} was nasty and full of worms",
    ),
    "Surprise": (
        "wow, I never expected {topic}", "I could not believe my eyes {when}", "suddenly {who} appeared out of nowhere",
        "what, {topic} already, that is unbelievable", "I was astonished by {topic}", "oh, {who} is here, what a shock",
        "it came completely unexpected, {topic} of all things", "who would have thought that of {who}, amazing",
        "I am stunned, {topic} out of the blue",
    ),
}  # fmt: skip

TRAIT_SENTENCES: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "curious": (
        ("I only like what I already know, like {topic}", "I never try new food or new places",
         "art and poetry bore me, give me {topic}", "I do it as {who} always did", "strange ideas are not for me"),
        ("I imagine new stories and paint about {topic}", "I want to explore foreign cultures and strange music",
         "I love philosophy and wild ideas about {topic}", "I invent something creative with {who}",
         "I am curious how {topic} would look in a poem"),
    ),
    "organised": (
        ("I forgot {topic} again, my desk is a mess", "I missed the deadline {when}", "I lose things and I never plan",
         "I left {topic} half done", "I am always late and I put everything off"),
        ("I planned {topic} carefully and finished early", "I keep a tidy calendar with every task",
         "I checked the list twice {when}", "I am always on time and prepared", "I work hard and complete {topic}"),
    ),
    "kind": (
        ("{who} is an idiot and deserves it", "I do not care what {who} feels", "people like {who} annoy me",
         "I will not share {topic} with anyone", "I argue with {who} because I am right"),
        ("I like helping {who}, they are so kind", "I trust people and I forgave {who}",
         "I brought {who} some soup {when}", "I am grateful to {who} for {topic}", "we should be gentle with {who}"),
    ),
}  # fmt: skip
"""Per theme the sentences that speak against it and those that speak for it."""

COMMITMENT: Mapping[int, Sequence[str]] = {
    1: (
        "I will start {habit} tomorrow", "I am ready for {habit}", "yes, {habit} is what I want",
        "I promised {who} to keep {habit}", "I have decided on {habit}", "{habit} works and I am going on with it",
        "I really want {habit} in my life", "I am committed to {habit}",
    ),
    -1: (
        "I will not bother with {habit}", "I refuse to hear about {habit}", "no, {habit} is not for me",
        "{who} keeps pushing {habit} and I am against it", "I gave up on {habit}", "I see no reason for {habit}",
        "I do not want {habit} in my life", "I am done with {habit}",
    ),
}  # fmt: skip
"""Sentences that commit to a change of habit (1) or reject it (-1)."""

_HEDGES = (
    "I am not sure, maybe", "I guess, sort of", "it depends, I don't know", "perhaps, possibly", "kind of, I suppose",
    "part of me hesitates", "on the other hand, who knows", "I keep going back and forth",
)  # fmt: skip
_PLAIN = ("that is that", "as I told {who}", "we spoke about it {when}", "it is as simple as that", "I told you {when}")


def sentence(templates: Sequence[str], rng: np.random.Generator) -> str:
    """Fill the slots of one of the templates.

    Args:
        templates: sentences with the slots {topic}, {who}, {when} and {habit}.
        rng: source of the choices.

    Returns:
        The sentence, with a capital letter and a full stop.
    """
    words = {slot: str(rng.choice(np.array(values))) for slot, values in _SLOTS.items()}
    said = templates[int(rng.integers(len(templates)))].format_map(words)
    return said[0].upper() + said[1:] + "."


def traits(levels: Mapping[str, int], rng: np.random.Generator) -> str:
    """Speak for (1), against (-1) or not about (0) every theme of `TRAIT_SENTENCES`, in any order."""
    said = [
        sentence(EMOTION_SENTENCES["Neutral"] if level == 0 else TRAIT_SENTENCES[theme][level > 0], rng)
        for theme, level in levels.items()
    ]
    return " ".join(said[i] for i in rng.permutation(len(said)))


def commitment(direction: int, hedging: int, rng: np.random.Generator) -> str:
    """Commit to a habit (1) or reject it (-1), with none to two hedges, in any order."""
    hedges = [_HEDGES[i] for i in rng.permutation(len(_HEDGES))[:hedging]]
    said = [sentence([hedge], rng) for hedge in hedges] + [sentence(_PLAIN, rng) for _ in range(2 - hedging)]
    said.insert(int(rng.integers(3)), sentence(COMMITMENT[direction], rng))
    return " ".join(said)
