"""Short posts in English, Spanish, French and German at once, from parallel templates and a parallel lexicon.

Agreement needs no rules because the slots are chosen for it: German noun phrases are feminine, neuter or
plural (nominative and accusative look alike) and follow only verbs and prepositions with the accusative;
French ones never follow `de` or `à`, and Spanish ones follow `a` only in the plural, so nothing contracts;
roles are stored with their article as objects of a verb. The speaker of a sentence is `we` or a firm, so that
no participle depends on a person's gender.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mtcl.demo.grammar import fill
from mtcl.demo.lexicon import INDUSTRIES, company_name

LANGUAGES = ("es", "fr", "de")
_COLUMNS = ("en", *LANGUAGES)

Parallel = tuple[str, str, str, str]
"""One phrase in English, Spanish, French and German."""

LEXICON: dict[str, tuple[Parallel, ...]] = {
    "city": (
        ("London", "Londres", "Londres", "London"),
        ("Munich", "Múnich", "Munich", "München"),
        ("Vienna", "Viena", "Vienne", "Wien"),
        ("Geneva", "Ginebra", "Genève", "Genf"),
        ("Lisbon", "Lisboa", "Lisbonne", "Lissabon"),
        ("Milan", "Milán", "Milan", "Mailand"),
        ("Brussels", "Bruselas", "Bruxelles", "Brüssel"),
        ("Copenhagen", "Copenhague", "Copenhague", "Kopenhagen"),
        ("Cologne", "Colonia", "Cologne", "Köln"),
        ("Warsaw", "Varsovia", "Varsovie", "Warschau"),
        ("Prague", "Praga", "Prague", "Prag"),
        ("Seville", "Sevilla", "Séville", "Sevilla"),
        ("Berlin", "Berlín", "Berlin", "Berlin"),
        ("Antwerp", "Amberes", "Anvers", "Antwerpen"),
        ("Zurich", "Zúrich", "Zurich", "Zürich"),
        ("Florence", "Florencia", "Florence", "Florenz"),
    ),
    "when": (
        ("Today", "Hoy", "Aujourd'hui,", "Heute"),
        ("Tomorrow", "Mañana", "Demain,", "Morgen"),
        ("This week", "Esta semana", "Cette semaine,", "Diese Woche"),
        ("This month", "Este mes", "Ce mois-ci,", "Diesen Monat"),
        ("On Friday", "El viernes", "Vendredi,", "Am Freitag"),
        ("On Tuesday", "El martes", "Mardi,", "Am Dienstag"),
        ("After the holidays", "Después de las vacaciones", "Après les vacances,", "Nach den Ferien"),
        ("In summer", "En verano", "En été,", "Im Sommer"),
        ("At the end of the year", "A finales de año", "À la fin de l'année,", "Am Ende des Jahres"),
    ),
    "thing": (
        (
            "our new data platform",
            "nuestra nueva plataforma de datos",
            "notre nouvelle plateforme de données",
            "unsere neue Datenplattform",
        ),
        (
            "the hiring campaign",
            "la campaña de contratación",
            "la campagne de recrutement",
            "die Einstellungskampagne",
        ),
        (
            "our supply chain",
            "nuestra cadena de suministro",
            "notre chaîne d'approvisionnement",
            "unsere Lieferkette",
        ),
        (
            "the customer survey",
            "la encuesta de clientes",
            "l'enquête auprès des clients",
            "die Kundenumfrage",
        ),
        ("the budget", "el presupuesto", "le budget", "das Budget"),
        (
            "the security training",
            "la formación en seguridad",
            "la formation à la sécurité",
            "die Sicherheitsschulung",
        ),
        ("our warehouse", "nuestro almacén", "notre entrepôt", "unser Lager"),
        (
            "the mentoring programme",
            "el programa de mentoría",
            "le programme de mentorat",
            "das Mentorenprogramm",
        ),
        ("our carbon footprint", "nuestra huella de carbono", "notre empreinte carbone", "unsere CO2-Bilanz"),
        ("the four-day week", "la semana de cuatro días", "la semaine de quatre jours", "die Viertagewoche"),
        ("the new office", "la nueva oficina", "le nouveau bureau", "das neue Büro"),
        ("the pricing strategy", "la estrategia de precios", "la stratégie de prix", "die Preisstrategie"),
        (
            "our leadership culture",
            "nuestra cultura de liderazgo",
            "notre culture managériale",
            "unsere Führungskultur",
        ),
        (
            "the software update",
            "la actualización del software",
            "la mise à jour du logiciel",
            "die Softwareaktualisierung",
        ),
        ("the annual report", "el informe anual", "le rapport annuel", "die Jahresbilanz"),
        ("the pay rises", "los aumentos de sueldo", "les augmentations de salaire", "die Gehaltserhöhungen"),
        ("the night shift", "el turno de noche", "l'équipe de nuit", "die Nachtschicht"),
        ("the working hours", "los horarios de trabajo", "les horaires de travail", "die Arbeitszeiten"),
        (
            "the training budget",
            "el presupuesto de formación",
            "le budget de formation",
            "das Weiterbildungsbudget",
        ),
        (
            "our return policy",
            "nuestra política de devoluciones",
            "notre politique de retour",
            "unsere Rückgaberegelung",
        ),
    ),
    "role": (
        ("a nurse", "una enfermera", "une infirmière", "eine Krankenschwester"),
        ("an accountant", "un contable", "un comptable", "eine Buchhalterin"),
        ("a lawyer", "una abogada", "une avocate", "eine Anwältin"),
        ("a warehouse worker", "un mozo de almacén", "un magasinier", "eine Lagerkraft"),
        ("a software developer", "una desarrolladora", "une développeuse", "eine Entwicklerin"),
        ("a teacher", "una profesora", "une enseignante", "eine Lehrerin"),
        ("an electrician", "un electricista", "un électricien", "eine Elektrikerin"),
        ("a sales manager", "una jefa de ventas", "une directrice des ventes", "eine Vertriebsleiterin"),
        ("a graphic designer", "una diseñadora gráfica", "une graphiste", "eine Grafikerin"),
        ("a project manager", "una jefa de proyecto", "une cheffe de projet", "eine Projektleiterin"),
        ("an intern", "una becaria", "une stagiaire", "eine Praktikantin"),
        ("two engineers", "dos ingenieros", "deux ingénieurs", "zwei Ingenieure"),
    ),
    "people": (
        ("our customers", "nuestros clientes", "nos clients", "unsere Kunden"),
        ("the suppliers", "los proveedores", "les fournisseurs", "die Lieferanten"),
        ("our colleagues", "nuestros compañeros", "nos collègues", "unsere Kollegen"),
        ("the investors", "los inversores", "les investisseurs", "die Investoren"),
        ("the apprentices", "los aprendices", "les apprentis", "die Auszubildenden"),
        ("the managers", "los directivos", "les cadres", "die Führungskräfte"),
        ("the students", "los estudiantes", "les étudiants", "die Studierenden"),
        ("the volunteers", "los voluntarios", "les bénévoles", "die Freiwilligen"),
        ("the parents", "los padres", "les parents", "die Eltern"),
        ("the neighbours", "los vecinos", "les voisins", "die Nachbarn"),
    ),
}

SENTENCES: tuple[Parallel, ...] = (
    (
        "{company} is looking for {role} in {city}.",
        "{company} busca {role} en {city}.",
        "{company} recherche {role} à {city}.",
        "{company} sucht {role} in {city}.",
    ),
    (
        "We urgently need {role} for {thing}.",
        "Necesitamos con urgencia {role} para {thing}.",
        "Il nous faut d'urgence {role} pour {thing}.",
        "Wir brauchen dringend {role} für {thing}.",
    ),
    (
        "{when} we are discussing {thing}.",
        "{when} debatimos {thing}.",
        "{when} nous évoquons {thing}.",
        "{when} besprechen wir {thing}.",
    ),
    (
        "Without {people} we would never have changed {thing}.",
        "Sin {people} nunca habríamos cambiado {thing}.",
        "Sans {people}, nous n'aurions jamais changé {thing}.",
        "Ohne {people} hätten wir {thing} nie geändert.",
    ),
    (
        "{people} appreciate {thing}.",
        "{people} valoran {thing}.",
        "{people} apprécient {thing}.",
        "{people} schätzen {thing}.",
    ),
    (
        "We have rethought {thing} for {people}.",
        "Hemos replanteado {thing} para {people}.",
        "Nous avons repensé {thing} pour {people}.",
        "Wir haben {thing} für {people} überdacht.",
    ),
    (
        "{company} is creating {n} new jobs in {city}.",
        "{company} crea {n} nuevos puestos de trabajo en {city}.",
        "{company} crée {n} nouveaux emplois à {city}.",
        "{company} schafft {n} neue Arbeitsplätze in {city}.",
    ),
    (
        "In {city}, {people} are criticising {thing}.",
        "En {city}, {people} critican {thing}.",
        "À {city}, {people} critiquent {thing}.",
        "In {city} kritisieren {people} {thing}.",
    ),
    (
        "We are investing {n} million in {thing}.",
        "Invertimos {n} millones en {thing}.",
        "Nous investissons {n} millions dans {thing}.",
        "Wir investieren {n} Millionen in {thing}.",
    ),
    (
        "Who is going to pay for {thing} at {company}?",
        "¿Quién va a pagar {thing} en {company}?",
        "Qui va payer {thing} chez {company} ?",
        "Wer wird bei {company} {thing} bezahlen?",
    ),
    (
        "{people} have been waiting for {thing} for {n} weeks.",
        "{people} esperan {thing} desde hace {n} semanas.",
        "{people} attendent {thing} depuis {n} semaines.",
        "{people} warten seit {n} Wochen auf {thing}.",
    ),
    (
        "{when} we welcome {people} in {city}.",
        "{when} recibimos en {city} a {people}.",
        "{when} nous accueillons {people} à {city}.",
        "{when} begrüßen wir {people} in {city}.",
    ),
    (
        "Our new office in {city} needs {role}.",
        "Nuestra nueva oficina en {city} necesita {role}.",
        "Notre nouveau bureau à {city} cherche {role}.",
        "Unser neues Büro in {city} braucht {role}.",
    ),
    (
        "We are sorry: {company} has to postpone {thing}.",
        "Lo sentimos: {company} tiene que aplazar {thing}.",
        "Nous sommes désolés : {company} doit reporter {thing}.",
        "Es tut uns leid: {company} muss {thing} verschieben.",
    ),
    (
        "{when} {company} is presenting {thing} in {city}.",
        "{when} {company} presenta {thing} en {city}.",
        "{when} {company} présente {thing} à {city}.",
        "{when} präsentiert {company} {thing} in {city}.",
    ),
    (
        "We are looking for {role} to support {people}.",
        "Buscamos {role} para apoyar a {people}.",
        "Nous recherchons {role} pour soutenir {people}.",
        "Wir suchen {role} als Hilfe für {people}.",
    ),
    (
        "How would you explain {thing} in one sentence?",
        "¿Cómo explicarías {thing} en una frase?",
        "Comment expliqueriez-vous {thing} en une phrase ?",
        "Wie würdet ihr {thing} in einem Satz erklären?",
    ),
    (
        "{n} people in {city} applied for one position.",
        "{n} personas solicitaron un solo puesto en {city}.",
        "{n} personnes ont postulé pour un seul poste à {city}.",
        "{n} Menschen haben sich in {city} auf eine einzige Stelle beworben.",
    ),
    (
        "We support {people} and defend {thing}.",
        "Apoyamos a {people} y defendemos {thing}.",
        "Nous soutenons {people} et défendons {thing}.",
        "Wir unterstützen {people} und verteidigen {thing}.",
    ),
    (
        "{when} our team is planning {thing} without {people}.",
        "{when} nuestro equipo planifica {thing} sin {people}.",
        "{when} notre équipe planifie {thing} sans {people}.",
        "{when} plant unser Team {thing} ohne {people}.",
    ),
    (
        "After {n} years we are leaving {city}.",
        "Después de {n} años dejamos {city}.",
        "Après {n} ans, nous quittons {city}.",
        "Nach {n} Jahren verlassen wir {city}.",
    ),
    (
        "{company} relies on {people}.",
        "{company} cuenta con {people}.",
        "{company} compte sur {people}.",
        "{company} setzt auf {people}.",
    ),
)

CLOSERS: tuple[Parallel, ...] = (
    ("It was a long road.", "Ha sido un largo camino.", "Le chemin a été long.", "Es war ein langer Weg."),
    ("What do you think?", "¿Qué opináis?", "Qu'en pensez-vous ?", "Was meint ihr?"),
    (
        "Please share this post.",
        "Por favor, compartid esta publicación.",
        "Merci de partager cette publication.",
        "Bitte teilt diesen Beitrag.",
    ),
    (
        "Honesty pays off.",
        "La honestidad vale la pena.",
        "L'honnêteté est payante.",
        "Ehrlichkeit zahlt sich aus.",
    ),
    (
        "We made many mistakes.",
        "Hemos cometido muchos errores.",
        "Nous avons fait beaucoup d'erreurs.",
        "Wir haben viele Fehler gemacht.",
    ),
    (
        "Nobody believed in it at first.",
        "Al principio nadie lo creía.",
        "Au début, personne n'y croyait.",
        "Am Anfang hat niemand daran geglaubt.",
    ),
    (
        "Send us a message.",
        "Escribidnos un mensaje.",
        "Envoyez-nous un message.",
        "Schickt uns eine Nachricht.",
    ),
    ("This makes us proud.", "Nos llena de orgullo.", "Cela nous rend fiers.", "Das macht uns stolz."),
    (
        "The numbers speak for themselves.",
        "Las cifras hablan por sí solas.",
        "Les chiffres parlent d'eux-mêmes.",
        "Die Zahlen sprechen für sich.",
    ),
    (
        "Good things take time.",
        "Las cosas buenas llevan su tiempo.",
        "Les bonnes choses prennent du temps.",
        "Gut Ding will Weile haben.",
    ),
    ("We are still learning.", "Seguimos aprendiendo.", "Nous apprenons encore.", "Wir lernen noch dazu."),
    (
        "Thank you for your patience.",
        "Gracias por vuestra paciencia.",
        "Merci de votre patience.",
        "Danke für eure Geduld.",
    ),
    (
        "There is cake in the kitchen.",
        "Hay tarta en la cocina.",
        "Il y a du gâteau dans la cuisine.",
        "In der Küche steht Kuchen.",
    ),
    (
        "It is cheaper than expected.",
        "Sale más barato de lo previsto.",
        "C'est moins cher que prévu.",
        "Es ist billiger als erwartet.",
    ),
    (
        "More information follows tomorrow.",
        "Mañana daremos más detalles.",
        "Plus d'informations demain.",
        "Weitere Informationen folgen morgen.",
    ),
    (
        "No one should work on Sundays.",
        "Nadie debería trabajar los domingos.",
        "Personne ne devrait travailler le dimanche.",
        "Niemand sollte sonntags arbeiten.",
    ),
    (
        "The hardest part is still to come.",
        "Lo más difícil está por llegar.",
        "Le plus dur reste à venir.",
        "Das Schwerste kommt noch.",
    ),
    (
        "The competition is watching.",
        "La competencia nos observa.",
        "La concurrence nous observe.",
        "Die Konkurrenz schaut zu.",
    ),
    ("Courage is rewarded.", "El valor tiene recompensa.", "Le courage est récompensé.", "Mut wird belohnt."),
    ("Details on request.", "Más detalles a petición.", "Détails sur demande.", "Einzelheiten auf Anfrage."),
    (
        "We start in {n} days.",
        "Empezamos en {n} días.",
        "Nous commençons dans {n} jours.",
        "In {n} Tagen geht es los.",
    ),
    ("Greetings from {city}!", "¡Saludos desde {city}!", "Salutations depuis {city} !", "Grüße aus {city}!"),
)

_NUM_CLOSERS = (0, 1, 1, 2)


@dataclass(frozen=True)
class Translated:
    """An English sentence or two, and the same in each of `LANGUAGES`."""

    english: str
    others: dict[str, str]


def make_translated(rng: random.Random) -> Translated:
    """A short post in four languages; the slots of all four hold the same things."""
    parts = [rng.choice(SENTENCES), *rng.sample(CLOSERS, rng.choice(_NUM_CLOSERS))]
    drawn = {slot: rng.choice(phrases) for slot, phrases in LEXICON.items()}
    name = company_name(rng, rng.choice(INDUSTRIES))
    number = str(rng.randint(3, 95))
    texts = []
    for column, _ in enumerate(_COLUMNS):
        slots = {slot: (phrase[column],) for slot, phrase in drawn.items()}
        slots |= {"company": (name,), "n": (number,)}
        sentences = [fill(part[column], slots, rng) for part in parts]
        texts.append(" ".join(sentence[0].upper() + sentence[1:] for sentence in sentences))
    return Translated(texts[0], dict(zip(LANGUAGES, texts[1:], strict=True)))
