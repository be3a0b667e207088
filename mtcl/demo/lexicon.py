"""Words that all topics share: industries, roles, places, companies, and the sentences that say little.

Company names are built from invented syllables, so that no real firm is meant; places are real cities.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Industry:
    """A branch of business, its words and the hashtags its people use."""

    name: str
    firms: tuple[str, ...]
    """Second words of company names."""
    product: tuple[str, ...]
    """What such a company makes or sells; noun phrases in the singular without an article."""
    tags: tuple[str, str]
    """The plain hashtag and the one of the community, whose meaning is to be learned."""


INDUSTRIES: tuple[Industry, ...] = (
    Industry(
        "healthcare",
        ("Health", "Clinics", "Care"),
        ("glucose sensor", "triage app", "ward tablet", "hearing aid"),
        ("#HealthTech", "#WhiteCoatCircle"),
    ),
    Industry(
        "banking",
        ("Bank", "Capital", "Pay"),
        ("savings app", "payment card", "loan portal", "fraud monitor"),
        ("#FinTech", "#TellerTalk"),
    ),
    Industry(
        "logistics",
        ("Logistics", "Freight", "Lines"),
        ("parcel tracker", "cargo bike", "yard robot", "route planner"),
        ("#Transport", "#DockSide"),
    ),
    Industry(
        "energy",
        ("Energy", "Grid", "Power"),
        ("home battery", "wind turbine", "smart meter", "heat pump"),
        ("#Renewables", "#GridGang"),
    ),
    Industry(
        "retail",
        ("Stores", "Market", "Outfitters"),
        ("loyalty app", "self-checkout", "delivery box", "fitting mirror"),
        ("#Ecommerce", "#ShopfloorStories"),
    ),
    Industry(
        "education",
        ("Learning", "Schools", "Tutors"),
        ("maths tutor", "reading app", "exam platform", "classroom kit"),
        ("#EdTech", "#ChalkboardCrew"),
    ),
    Industry(
        "manufacturing",
        ("Works", "Robotics", "Machines"),
        ("welding robot", "packing line", "torque sensor", "assembly arm"),
        ("#Industry40", "#ShiftBell"),
    ),
    Industry(
        "tourism",
        ("Hotels", "Travel", "Retreats"),
        ("booking engine", "night train pass", "guest app", "walking tour"),
        ("#Hospitality", "#KeycardClub"),
    ),
    Industry(
        "construction",
        ("Builders", "Timber", "Homes"),
        ("modular house", "site drone", "timber frame", "crane planner"),
        ("#PropTech", "#HardHatHuddle"),
    ),
    Industry(
        "agriculture",
        ("Farms", "Fields", "Harvest"),
        ("soil probe", "picking robot", "greenhouse kit", "seed drill"),
        ("#AgTech", "#MuddyBoots"),
    ),
)


@dataclass(frozen=True)
class Occupation:
    """A job title, how people shorten it in a search box, and a hashtag of the profession."""

    name: str
    short: tuple[str, ...]
    tag: str


OCCUPATIONS: tuple[Occupation, ...] = (
    Occupation("software engineer", ("swe", "dev", "coder"), "#DevLife"),
    Occupation("data scientist", ("ds", "ml person", "stats whiz"), "#DataFolk"),
    Occupation("data engineer", ("pipeline builder", "etl dev", "de"), "#DataFolk"),
    Occupation("product manager", ("pm", "product owner", "roadmap person"), "#ProductPeople"),
    Occupation("project manager", ("pmo", "delivery lead", "gantt person"), "#ProductPeople"),
    Occupation("UX designer", ("ux", "interface design", "figma person"), "#DesignDesk"),
    Occupation("graphic designer", ("visuals", "creative", "art desk"), "#DesignDesk"),
    Occupation("nurse", ("rn", "ward staff", "bedside care"), "#NightShiftNurses"),
    Occupation("teacher", ("classroom staff", "educator", "tutor"), "#TeachersLounge"),
    Occupation("accountant", ("bookkeeper", "cpa", "ledger person"), "#NumbersPeople"),
    Occupation("financial analyst", ("fp&a", "finance modelling", "excel finance"), "#NumbersPeople"),
    Occupation("recruiter", ("ta", "sourcer", "talent scout"), "#PeoplePeople"),
    Occupation("HR manager", ("hr", "people ops", "personnel"), "#PeoplePeople"),
    Occupation("sales representative", ("ae", "sdr", "quota carrier"), "#QuotaClub"),
    Occupation("customer success manager", ("csm", "client care", "renewals"), "#QuotaClub"),
    Occupation("marketing specialist", ("mktg", "growth", "campaigns"), "#BrandBench"),
    Occupation("copywriter", ("content writer", "wordsmith", "copy"), "#BrandBench"),
    Occupation("warehouse supervisor", ("dc lead", "depot boss", "shift lead"), "#OpsFloor"),
    Occupation("supply planner", ("s&op", "demand planning", "stock planning"), "#OpsFloor"),
    Occupation("electrician", ("sparky", "wiring", "electrical trade"), "#ToolsOut"),
    Occupation("site manager", ("foreman", "building boss", "gaffer"), "#ToolsOut"),
    Occupation("security analyst", ("infosec", "soc", "blue team"), "#DevLife"),
    Occupation("legal counsel", ("lawyer", "in-house law", "attorney"), "#LegalEase"),
    Occupation("office manager", ("admin", "workplace", "front desk"), "#PeoplePeople"),
)


@dataclass(frozen=True)
class Place:
    """A city and the names that people type instead."""

    name: str
    short: tuple[str, ...]


PLACES: tuple[Place, ...] = (
    Place("San Francisco", ("sf", "bay area")),
    Place("New York", ("nyc", "big apple")),
    Place("Los Angeles", ("la", "socal")),
    Place("Washington", ("dc", "us capital")),
    Place("Philadelphia", ("philly", "phl")),
    Place("Chicago", ("chi", "windy city")),
    Place("Boston", ("bos", "beantown")),
    Place("Seattle", ("sea", "emerald city")),
    Place("Toronto", ("yyz", "the six")),
    Place("London", ("ldn", "uk capital")),
    Place("Manchester", ("mcr", "north west uk")),
    Place("Edinburgh", ("edi", "auld reekie")),
    Place("Dublin", ("dub", "irish capital")),
    Place("Paris", ("cdg", "city of light")),
    Place("Lyon", ("lys", "rhone area")),
    Place("Brussels", ("bru", "belgian capital")),
    Place("Amsterdam", ("ams", "dutch capital")),
    Place("Berlin", ("ber", "german capital")),
    Place("Munich", ("muc", "bavaria")),
    Place("Hamburg", ("ham", "north germany")),
    Place("Zurich", ("zrh", "swiss money city")),
    Place("Vienna", ("vie", "austrian capital")),
    Place("Madrid", ("mad", "spanish capital")),
    Place("Barcelona", ("bcn", "catalonia")),
    Place("Lisbon", ("lis", "portuguese capital")),
    Place("Milan", ("mil", "lombardy")),
    Place("Copenhagen", ("cph", "danish capital")),
    Place("Stockholm", ("sthlm", "swedish capital")),
    Place("Singapore", ("sg", "lion city")),
    Place("Sydney", ("syd", "nsw")),
    Place("Melbourne", ("melb", "victoria")),
    Place("Bangalore", ("blr", "bengaluru")),
    Place("Nairobi", ("nbo", "kenya")),
    Place("Cape Town", ("cpt", "mother city")),
    Place("Mexico City", ("cdmx", "mexican capital")),
    Place("Tokyo", ("tyo", "japan")),
)

_STEMS = (
    *("Vorl", "Quand", "Tressl", "Keld", "Yarv", "Zint", "Harbl", "Moxt", "Pellv", "Drusk", "Gralt", "Jorv"),
    *("Ombr", "Fensk", "Bramv", "Cruthl", "Dwelv", "Eskr", "Glimv", "Hulst", "Istr", "Krenn", "Lomv", "Mirv"),
    *("Nolb", "Ostrin", "Prend", "Ruvsk", "Thrulm", "Tolm", "Ulven", "Wendr"),
)
_ENDINGS = ("ora", "een", "ano", "aby", "ett", "ume", "ica", "ovi", "und", "alo", "ery", "ist")

FIRST_NAMES: tuple[str, ...] = (
    *(
        "Amara",
        "Ilse",
        "Tomas",
        "Priya",
        "Kofi",
        "Marit",
        "Yusuf",
        "Elena",
        "Jonas",
        "Mei",
        "Rafael",
        "Saoirse",
    ),
    *(
        "Anouk",
        "Dmitri",
        "Leila",
        "Hugo",
        "Noor",
        "Stefan",
        "Chioma",
        "Lucia",
        "Oskar",
        "Farida",
        "Bao",
        "Greta",
    ),
)

SURNAMES: tuple[str, ...] = (
    *("Ombrak", "Veltrano", "Kesswin", "Dorvalen", "Quintrel", "Hasprun", "Lindmarrow", "Tarvese", "Brunnik"),
    *(
        "Olvender",
        "Pashkell",
        "Merrowin",
        "Zandrup",
        "Follbrand",
        "Isterholt",
        "Gruvane",
        "Cavendrin",
        "Nuweldt",
    ),
)
"""Invented like the companies' names."""


def company_name(rng: random.Random, industry: Industry) -> str:
    """An invented firm of that industry, such as `Vorlano Freight`."""
    return f"{rng.choice(_STEMS)}{rng.choice(_ENDINGS)} {rng.choice(industry.firms)}"


SHARED: dict[str, tuple[str, ...]] = {
    "n": tuple(str(n) for n in (*range(3, 40), 45, 50, 60, 75, 80, 90, 120, 150, 200, 250, 300, 400, 500)),
    "year": ("2019", "2021", "2022", "2023", "2024", "2025"),
    "when": (
        *(
            "Last week",
            "This morning",
            "Yesterday",
            "In March",
            "Two years ago",
            "On Monday",
            "In my first job",
        ),
        *("Last winter", "At the end of a long quarter", "Over the summer", "Somewhere over the Atlantic"),
        *("During the school holidays", "Half a year ago", "On the train home", "In the autumn"),
    ),
    "feeling": (
        *("grateful", "tired but happy", "a little nervous", "proud", "relieved", "still shaking", "excited"),
        *("humbled", "out of words", "sceptical", "quietly delighted", "more convinced than ever"),
    ),
    "who": (
        *("my team", "a former boss", "my neighbour", "an old friend", "the intern", "our newest colleague"),
        *("my daughter", "a client", "my mentor", "the night shift", "our board", "a stranger on the tram"),
    ),
    "event": (
        *(
            "a breakfast panel",
            "our offsite",
            "a trade fair",
            "a podcast",
            "the regional meetup",
            "a webinar",
        ),
        *("a town hall", "the annual conference", "a guest lecture", "a round table", "an open house"),
    ),
    "thing": (
        *(
            "coffee",
            "a whiteboard",
            "patience",
            "one honest sentence",
            "good shoes",
            "a shared document",
            "luck",
        ),
        *("a stubborn colleague", "twenty minutes of silence", "a bad first draft", "too many slides"),
    ),
}

FILLERS: tuple[str, ...] = (
    "It took {n} weeks, {thing} and {thing}.",
    "Thank you to {who} for the push.",
    "I will share the slides from {event} in the comments.",
    "{who} asked me about it at {event}, and I had no good answer.",
    "After {n} years in {industry} I still learn this the slow way.",
    "What worked for us at {company} may not work for you.",
    "In {industry} we talk about it a lot and do it too little.",
    "Any {role} will know the feeling.",
    "We wrote it up for the {place} office; ask me if you want a copy.",
    "Curious what others in {industry} think.",
    "It was not perfect, but I am {feeling}.",
    "{when} I would have laughed at that.",
    "More about it at {event} in {place} next month.",
    "Agree? Disagree? Tell me below.",
    "There were {n} of us in the room and {n} opinions.",
    "My {year} self would not believe it.",
    "Let me know if {company} can help.",
    "{who} called it a waste of time. We shall see.",
    "The secret was {thing}.",
    "We are {n} people now, spread between {place} and everywhere else.",
    "It started with {thing} in a corridor at {company}.",
    "If you are a {role} in {place}, let us have lunch.",
    "I have told this story {n} times and it still makes me {feeling}.",
    "Nothing about this is specific to {industry}, by the way.",
    "Numbers, since somebody will ask: {n} before, {n} after.",
    "Photo taken at {event}, just before the rain.",
    "I owe {who} a dinner.",
    "Posting this from {place}, {feeling}.",
    "As a {role} you rarely hear that said aloud.",
    "Repost if it helps somebody in your network.",
    "It cost us {n} thousand and one friendship.",
    "{company} gave us the time to do it properly.",
    "That is the whole post.",
    "The comments on my last one were better than the post itself.",
)

PASSING: tuple[str, ...] = (
    "Everyone at {event} wanted to talk about {other}; I did not.",
    "Before that I had written about {other}, which got ten times the likes.",
    "No, this is not another post about {other}.",
    "{who} wanted a post about {other}. Sorry, not today.",
    "I will leave {other} and {other} to people who know more.",
    "Between a panel about {other} and a panel about {other}, we finally sat down.",
    "My feed is all {other} this week.",
    "It was squeezed into the agenda after {other}.",
    "Last year my answer would have been about {other}.",
    "You will hear more about {other} from my colleagues at {company}.",
)
