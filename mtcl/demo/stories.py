"""Storylines: several posts about one event by different authors, for the task `storyline`.

Stories come in clusters that are hard to tell apart: two or three events at one company, and each kind of
event recurs at other companies. A cluster stays in one split, so its distractors are in the same pool. Some
angles leave the company's name out, and the post must then be known by the product, the place or the kind of
event.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mtcl.demo.grammar import Ledger, fill, pick, polish
from mtcl.demo.lexicon import FIRST_NAMES, INDUSTRIES, OCCUPATIONS, PLACES, SHARED, SURNAMES, Industry, company_name

_MIN_POSTS, _MAX_POSTS = 4, 15


@dataclass(frozen=True)
class EventKind:
    """A kind of event: how insiders, outsiders and the firm itself speak of it."""

    official: tuple[str, ...]
    staff: tuple[str, ...]
    outside: tuple[str, ...]
    details: tuple[str, ...]


EVENTS: tuple[EventKind, ...] = (
    EventKind(
        official=(
            "We are thrilled to present the new {product}, made in {place}.",
            "After {num} months of work, {company} brings its {product} to the shops.",
        ),
        staff=(
            "The thing I could not talk about for {num} months is out: the {product}!",
            "Launch night in {place}. My first {product} is in a customer's hands.",
        ),
        outside=(
            "Ordered the {product} by {company} out of curiosity. The box is lovely, the manual is not.",
            "Does the {product} from {place} work offline? Asking before I pay {price} for it.",
            "{company} enters a crowded field with its {product}. At {price} it will be a hard sell.",
        ),
        details=(
            "It costs {price}.",
            "It ships to {num} countries.",
            "Designed by {person} and a crew of {num}.",
        ),
    ),
    EventKind(
        official=(
            "{company} has raised {money} million to grow beyond {place}.",
            "Our Series B is closed: {money} million, led by people who know {industry}.",
        ),
        staff=(
            "From {num} desks in {place} to a {money} million round. Pinch me.",
            "I joined when we could not pay for chairs. Now investors queue up at {company}.",
        ),
        outside=(
            "{money} million for a {product}? The market for {industry} money is warm again.",
            "What will the folks in {place} do with all that fresh capital? My guess: hire salespeople.",
            "I passed on {company} at seed. Today's valuation is my punishment.",
        ),
        details=(
            "{person} joins the board.",
            "The round took {num} weeks.",
            "Half of it goes into the {product}.",
        ),
    ),
    EventKind(
        official=(
            "Today we say goodbye to {num} colleagues in {place}. It was our decision, and it is on us.",
            "{company} will reduce its workforce by {num} people.",
        ),
        staff=(
            "My badge stopped working at nine. {num} of us in {place} are looking for something new.",
            "I survived the cuts at {company} and feel awful about it.",
        ),
        outside=(
            "If you were let go by {company} today: we have open seats, write to me.",
            "They overhired on the {product}, and {num} families in {place} pay for it.",
            "Another round of redundancies in {industry}. Severance of {weeks} weeks is at least decent.",
        ),
        details=(
            "{person} announced it by video.",
            "The {product} group is hit hardest.",
            "Severance: {weeks} weeks.",
        ),
    ),
    EventKind(
        official=(
            "{company} is joining forces with {rival}. The deal is worth {money} million.",
            "We have agreed to buy {rival}, the team behind a {product} we have long admired.",
        ),
        staff=(
            "So we are all {rival} now? Nobody in {place} knows whose mugs will stay.",
            "Got a welcome mail from new owners this morning. The canteen in {place} talks of nothing else.",
        ),
        outside=(
            "{money} million buys you a {product} and a lot of integration work. Good luck to {person}.",
            "The takeover of {rival} makes sense on slides. I would watch the overlap in {place}.",
            "As a client of both {company} and {rival}: which login do I keep?",
        ),
        details=(
            "Regulators still have to agree.",
            "{person} will run both.",
            "Closing is planned in {num} weeks.",
        ),
    ),
    EventKind(
        official=(
            "We opened our new plant in {place} today. It will make the {product} for half of the continent.",
            "Ribbon cut! {company} brings {num} jobs to {place}.",
        ),
        staff=(
            "First shift in the new hall. It still smells of paint, and the {product} line hums.",
            "I moved to {place} for this building. Worth each of the {num} boxes.",
        ),
        outside=(
            "{num} jobs for {place} are welcome; where will all of those people park?",
            "Visited the factory of {company} before the mayor did. More robots than I expected.",
            "A site for the {product} at {money} million: the subsidies alone deserve a post.",
        ),
        details=(
            "The hall cost {money} million.",
            "{person} runs the site.",
            "It covers {num} football pitches.",
        ),
    ),
    EventKind(
        official=(
            "On Sunday an outsider had access to data of users of the {product}. We are sorry.",
            "{company} was the target of an attack. {num} thousand accounts are affected.",
        ),
        staff=(
            "Third night in the war room in {place}. Someone please bring vegetables.",
            "I answer the hotline today. People are angry, and they are right: it is their data.",
        ),
        outside=(
            "Got the dreaded letter from {company}. Why did they keep my address for {num} years?",
            "{num} thousand records from one open server. The {product} deserved a grown-up backend.",
            "Credit to {person} for telling us within a day. The leak itself is still a beginner's error.",
        ),
        details=(
            "Passwords were hashed.",
            "{person} leads the inquiry.",
            "The hole was open for {num} days.",
        ),
    ),
    EventKind(
        official=(
            "{person} will take over as chief executive of {company}.",
            "Our board has chosen {person}, who built the {product}, to lead us.",
        ),
        staff=(
            "{person} once fixed the printer in {place} for me. Now: top floor. Could not be happier.",
            "New boss on Monday. I hope {person} keeps the Friday soup.",
        ),
        outside=(
            "{person} inherits a strong {product} and a weak balance sheet.",
            "Interesting that {company} picks an insider again. The share barely moved.",
            "I went to school with {person}; {place} should be proud.",
        ),
        details=(
            "The founder stays on the board.",
            "It was a {num}-week search.",
            "First visit: the {place} office.",
        ),
    ),
    EventKind(
        official=(
            "{company} and {rival} will build the next {product} together.",
            "A handshake in {place}: we and {rival} share labs from today.",
        ),
        staff=(
            "Spent the day with our counterparts from {rival}. Turns out they have the same arguments.",
            "Two logos on one {product}. I never thought that legal would let us.",
        ),
        outside=(
            "An alliance of {company} and {rival} leaves the third player in {place} very lonely.",
            "Joint ventures in {industry} rarely live {num} years. This one might.",
            "Who owns the customer when the {product} has two parents?",
        ),
        details=(
            "It runs for {num} years.",
            "Both sides pay {money} million.",
            "{person} speaks for the pair.",
        ),
    ),
    EventKind(
        official=(
            "We accept the fine of {money} million and have changed how the {product} is sold.",
            "The regulator has closed its case against {company}. We pay and we learn.",
        ),
        staff=(
            "Compliance in {place} warned about this for years. I know, I was compliance.",
            "Mandatory training on Monday, for all. We know why.",
        ),
        outside=(
            "{money} million sounds like a lot. For {company} it is about {num} days of revenue.",
            "At last a penalty for the small print of the {product}.",
            "The watchdog has teeth after all. Others in {industry} should read the ruling.",
        ),
        details=("The ruling has {num} pages.", "{person} declined to comment.", "An appeal is unlikely."),
    ),
    EventKind(
        official=(
            "After {num} days the strike in {place} is over. Thank you to all who kept talking.",
            "{company} and its union have signed a new pay agreement.",
        ),
        staff=(
            "{num} days on the picket line in {place}, and it rained on most. We got the raise.",
            "Back at the {product} line this morning. The kettle was still warm, so to speak.",
        ),
        outside=(
            "The walkout cost {company} about {money} million. The raise would have been cheaper.",
            "My order has been stuck since the stoppage. When do you deliver the {product} again?",
            "{person} of the union played a patient game. A lesson for the rest of {industry}.",
        ),
        details=("Pay rises by {pct} percent.", "{person} led the talks.", "Night shifts get shorter."),
    ),
    EventKind(
        official=(
            "Please stop using your {product} and return it. {company} pays the postage.",
            "We are recalling {num} thousand units of the {product} made in {place}.",
        ),
        staff=(
            "I signed off the batch. It is the hardest week of my career in {industry}.",
            "Sorting returned boxes in {place} with people from all floors, directors included.",
        ),
        outside=(
            "Sent my {product} back today. The refund took {num} minutes, credit where it is due.",
            "A faulty clip worth a cent, and now {money} million in costs. Quality is not a department.",
            "Is the older model by {company} affected as well? The hotline in {place} is engaged.",
        ),
        details=("Nobody was hurt.", "The fault is in a clip.", "{person} apologised on local radio."),
    ),
    EventKind(
        official=(
            "{company} has a new name and a new coat of paint: meet {rival}.",
            "We asked {num} customers who we are. Today we change our logo.",
        ),
        staff=(
            "New hoodie, same people. The {place} office is now painfully yellow.",
            "I have {num} boxes of old business cards. Suggestions welcome.",
        ),
        outside=(
            "Who pays {money} million for a rounder letter? Asking as a designer.",
            "It took me {num} minutes to find the {product} under the new brand.",
            "I like the fresh look of the {product}. Bold for {industry}.",
        ),
        details=(
            "An agency in {place} did the work.",
            "{person} picked the colour.",
            "The old domain stays.",
        ),
    ),
    EventKind(
        official=(
            "{company} is moving its head office to {place}.",
            "We are leaving our old tower. From spring you will find us in {place}.",
        ),
        staff=(
            "Moving boxes for {num} people and one very old ficus. {place}, here we come.",
            "Commute before: ten minutes. Commute after: a train to {place}. I am thinking.",
        ),
        outside=(
            "Good news for {place}, bad news for the sandwich bar next to the old tower.",
            "The move saves {company} {money} million in rent. It may cost some talent.",
            "Will the {product} showroom move to {place} as well?",
        ),
        details=(
            "The lease runs {num} years.",
            "{person} will not move.",
            "{num} desks for twice as many people.",
        ),
    ),
    EventKind(
        official=(
            "Our {product} has won the {industry} award of the year in {place}!",
            "{company} takes home the golden trophy. {num} entries, one winner.",
        ),
        staff=(
            "The trophy is heavier than it looks. {person} carried it on the night bus.",
            "{num} prototypes ended in the bin before this one stood on a stage in {place}.",
        ),
        outside=(
            "I was on the jury: the {product} won because it does one thing well.",
            "Congratulations from a rival. {company} earned that prize.",
            "Awards do not pay bills, but {industry} buyers do read the list of winners.",
        ),
        details=(
            "The jury had {num} members.",
            "{person} gave the speech.",
            "The prize money goes to a school.",
        ),
    ),
)

_ASIDES: tuple[str, ...] = (
    "I am {feeling}.",
    "Make of it what you will.",
    "More in the comments.",
    "{who} sent me the link.",
    "As a {role} I look at it differently.",
    "Heard it first at {event}.",
    "Views are my own.",
    "What do you think?",
    "{industry} is a small world.",
    "I have seen this film before.",
    "Proud and tired.",
    "Let us talk again in {year_ahead}.",
    "{person} said it best.",
    "My phone has not stopped since.",
    "Anyone from {company} reading this?",
    "I follow {company} closely.",
    "Full disclosure: I used to work with {person}.",
    "It is the talk of {place}.",
    "And yes, I do use the {product} myself.",
    "{company} in {place} was in the news before.",
    "We will see how {person} explains it.",
    "The {product} alone does not explain it.",
    "Greetings from {place}.",
)

_LEADS: tuple[str, ...] = (
    "{company}, {place}.",
    "A word on {company} and the {product}.",
    "On {person} and {company}.",
    "Seen at {company} today.",
)
_LEAD_SHARE = 0.4

Facts = dict[str, tuple[str, ...]]
"""What fills the slots in one story."""


@dataclass(frozen=True)
class Story:
    """The distinct texts about one event."""

    posts: tuple[str, ...]


def make_cluster(rng: random.Random, ledger: Ledger) -> list[Story]:
    """Two or three stories about one company, each about another kind of event."""
    industry = rng.choice(INDUSTRIES)
    company = company_name(rng, industry)
    kinds = rng.sample(EVENTS, rng.choice((2, 2, 3)))
    return [_make_story(kind, _facts(industry, company, rng), rng, ledger) for kind in kinds]


def _make_story(kind: EventKind, slots: Facts, rng: random.Random, ledger: Ledger) -> Story:
    wanted = min(_MAX_POSTS, _MIN_POSTS + int(rng.expovariate(1 / 3.5)))
    posts: list[str] = []
    templates: list[str] = []
    while len(posts) < wanted:
        templates = templates or _angles(kind, rng)
        text = _compose(templates.pop(), kind, slots, rng)
        if ledger.add(text):
            posts.append(text)
    return Story(tuple(posts))


def _facts(industry: Industry, company: str, rng: random.Random) -> Facts:
    """What is fixed in one story; roles, moods and the like still vary from post to post."""
    money = rng.randint(3, 400)
    return dict(
        SHARED,
        company=(company, company, company.split()[0]),
        rival=(company_name(rng, industry),),
        industry=(industry.name,),
        product=(rng.choice(industry.product),),
        place=(rng.choice(PLACES).name,),
        person=(f"{rng.choice(FIRST_NAMES)} {rng.choice(SURNAMES)}",),
        money=(str(money),),
        num=(str(rng.randint(12, 96)),),
        price=(f"{rng.randint(2, 90)}9 euros",),
        weeks=(str(rng.randint(4, 30)),),
        pct=(f"{rng.randint(2, 9)}.{rng.randint(1, 9)}",),
        role=tuple(role.name for role in OCCUPATIONS),
        year_ahead=("2027", "2028", "2030"),
    )


def _angles(kind: EventKind, rng: random.Random) -> list[str]:
    """All sentences about the event in random order."""
    templates = [*kind.official, *kind.staff, *kind.outside]
    rng.shuffle(templates)
    return templates


def _compose(template: str, kind: EventKind, slots: Facts, rng: random.Random) -> str:
    templates = [template]
    if rng.random() < 0.6:
        templates.append(pick(kind.details, rng))
    templates += rng.sample(_ASIDES, rng.choice((0, 0, 1, 1, 2)))
    if rng.random() < 0.25:
        rng.shuffle(templates)
    if rng.random() < _LEAD_SHARE:
        templates.insert(0, pick(_LEADS, rng))
    return polish(" ".join(fill(part, slots, rng) for part in dict.fromkeys(templates)))
