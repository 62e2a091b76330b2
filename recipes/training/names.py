"""Names and words that the fact questions are made of, with those held out of training for the evaluation."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence

NameSource = Callable[[random.Random], str]


def _listed(text: str) -> tuple[str, ...]:
    """The entries of a list with commas, over several lines."""
    return tuple(" ".join(entry.split()) for entry in text.split(","))


NUMBER_ATTRIBUTES = _listed(
    """
    people, population, area, schools, rivers, bridges, museums, farms, towers, lakes, parks, shops, trains, ships,
    books, goals, medals, songs, films, employees, stations, islands, hotels, forests, churches, students, houses,
    cars, gardens, height, length, width, depth, age, budget, price, debt, exports, imports, weight, visitors,
    members, birth rate, square kilometres, gold medals, sea ports, life expectancy, highest point, tax income
    """
)
TEXT_ATTRIBUTES = _listed(
    """
    capital, currency, continent, leader, language, neighbours, neighbors, president, founder, owner, religion,
    motto, flag, anthem, king, queen, region, colour, symbol, airport, author, hero, rival, twin, port, largest
    city, official language, head of state, national animal, highest mountain, calling code
    """
)
RELATIONS = _listed(
    """
    capital, twin, owner, rival, founder, leader, neighbour, neighbor, parent, partner, sponsor, port, teacher,
    president, king, brother, sister, ally, region, county, successor, largest city, sister city, oldest town, main
    port
    """
)
HELD_OUT_ATTRIBUTES = _listed(
    """
    dragons, lanterns, violins, zebras, balloons, cameras, wind mills
    """
)
HELD_OUT_TEXT_ATTRIBUTES = _listed(
    """
    patron, tailor, emblem, night guard
    """
)
HELD_OUT_RELATIONS = _listed(
    """
    mayor, patron, mentor, oldest sister
    """
)
HELD_OUT_NAMES = _listed(
    """
    Albania, Andorra, Armenia, Bahrain, Belgium, Belize, Botswana, Cambodia, Croatia, Cuba, Denmark, Eritrea,
    Estonia, Gabon, Germany, Guyana, Honduras, Iceland, Jordan, Kuwait, Lesotho, Lithuania, Malawi, Mongolia, New
    Zealand, Oman, Papua New Guinea, Paraguay, Qatar, Rwanda, Saudi Arabia, Senegal, Sierra Leone, Slovenia, Sri
    Lanka, Tajikistan, Tonga, Uruguay, Vietnam, Zambia, Vienna, Prague, Nairobi, Buenos Aires, Hong Kong, Jakarta,
    Lyon, Seattle, Bogota, Melbourne, Cape Verde, Kyiv
    """
)
SEEN_NAMES = _listed(
    """
    Afghanistan, Algeria, Angola, Argentina, Australia, Austria, Azerbaijan, Bangladesh, Barbados, Belarus, Benin,
    Bhutan, Bolivia, Brazil, Brunei, Bulgaria, Burkina Faso, Burundi, Cameroon, Canada, Chad, Chile, China,
    Colombia, Costa Rica, Cyprus, Czechia, Djibouti, Dominica, Ecuador, Egypt, El Salvador, Equatorial Guinea,
    Eswatini, Ethiopia, Fiji, Finland, France, Georgia, Ghana, Greece, Grenada, Guatemala, Guinea, Guinea-Bissau,
    Haiti, Hungary, India, Indonesia, Iran, Iraq, Ireland, Israel, Italy, Jamaica, Japan, Kazakhstan, Kenya,
    Kiribati, Kosovo, Kyrgyzstan, Laos, Latvia, Lebanon, Liberia, Libya, Liechtenstein, Luxembourg, Madagascar,
    Malaysia, Mali, Malta, Mauritania, Mauritius, Mexico, Micronesia, Moldova, Monaco, Montenegro, Morocco,
    Mozambique, Myanmar, Namibia, Nauru, Nepal, Nicaragua, Niger, Nigeria, North Korea, North Macedonia, Norway,
    Pakistan, Palau, Palestine, Panama, Peru, Poland, Portugal, Romania, Russia, Saint Lucia, Samoa, San Marino,
    Serbia, Singapore, Slovakia, Somalia, South Africa, South Korea, South Sudan, Spain, Sudan, Suriname, Sweden,
    Switzerland, Syria, Taiwan, Tanzania, Thailand, Timor-Leste, Togo, Tunisia, Turkey, Turkmenistan, Tuvalu,
    Uganda, Ukraine, Uzbekistan, Vanuatu, Venezuela, Yemen, Zimbabwe, Ivory Coast, Côte d'Ivoire, Greenland,
    Scotland, Wales, England, Bosnia and Herzegovina, Trinidad and Tobago, Antigua and Barbuda, Saint Kitts and
    Nevis, São Tomé and Príncipe, Saint Vincent and the Grenadines, Paris, Berlin, Tokyo, Madrid, London, Oslo,
    Cairo, Lima, Quito, Boston, Dublin, Warsaw, Lisbon, Athens, Helsinki, Stockholm, Bangkok, New York, Mexico City,
    Cape Town, Rio de Janeiro, Los Angeles, Amsterdam, Brussels, Budapest, Manila, Seoul, Delhi, New Delhi, Mumbai,
    Dhaka, Karachi, Lagos, Accra, Dakar, Tunis, Rome, Milan, Naples, Turin, Munich, Hamburg, Cologne, Marseille,
    Porto, Seville, Valencia, Chicago, Houston, Dallas, Denver, Toronto, Montreal, Vancouver, Havana, Caracas,
    Santiago, Montevideo, Sydney, Perth, Auckland, Wellington, Canberra, Ottawa, Beijing, Hanoi, Kuala Lumpur, Addis
    Ababa, Brasília, Bern, Washington D.C., Tehran, Baghdad, Ankara, Islamabad, Riyadh, Colombo, San Salvador, Port
    Louis, Belgrade, Sofia, Tallinn, Riga, Nuuk, Reykjavik, La Paz, Sucre, Panama City, Guatemala City, Saint
    Petersburg, Port-au-Prince, N'Djamena, Nay Pyi Taw, Africa, Asia, Europe, North America, South America, Oceania,
    Antarctica
    """
)
ARTICLE_NAMES = _listed(
    """
    Netherlands, Philippines, Gambia, Bahamas, Maldives, Seychelles, Comoros, Solomon Islands, Marshall Islands,
    United States, United Kingdom, United Arab Emirates, Czech Republic, Dominican Republic, Central African
    Republic, Republic of the Congo, Democratic Republic of the Congo, Congo, Vatican City, Soviet Union, Hague,
    Isle of Man, United States of America, European Union
    """
)
MONEY = _listed(
    """
    euro, peso, dollar, pound, yen, won, rupee, franc, dinar, krone, krona, lira, real, rand, sol, yuan, baht, dong,
    dirham, shilling, Peruvian sol, US dollar, Swiss franc, Indian rupee, Mexican peso, West African CFA franc,
    pound sterling, Chilean peso, Norwegian krone, Polish zloty, new shekel, Brazilian real, Japanese yen, Canadian
    dollar, Egyptian pound
    """
)

_PREFIXES = _listed("North, South, East, West, New, Saint, Port, San, Upper, Great, El, La, Al")
_SYLLABLES = tuple(consonant + vowel for consonant in "bcdfghjklmnprstvwz" for vowel in "aeiou") + _listed(
    "tha, the, tho, or, en, al, ist, und, ark, el, an, on, ir"
)
_ACCENTS = str.maketrans("aeiouncs", "áéíöúñçš")
_CITIES_BEGIN = SEEN_NAMES.index("Paris")
_REAL_NAMES = SEEN_NAMES[:_CITIES_BEGIN] * 3 + SEEN_NAMES[_CITIES_BEGIN:] + ARTICLE_NAMES * 3


def name(rng: random.Random) -> str:
    """An entity: an invented name of one or more words, a real one, or a real one with letters changed."""
    draw = rng.random()
    if draw < 0.60:
        return invented(rng)
    return real_name(rng) if draw < 0.86 else _oddity(rng, mangled(rng, rng.choice(SEEN_NAMES)))


def invented(rng: random.Random) -> str:
    """A name that means nothing: syllables or letters, one word or more."""
    draw = rng.random()
    if draw < 0.42:
        return _oddity(rng, syllables(rng).capitalize())
    if draw < 0.67:
        return _oddity(rng, letters(rng, 2, 8).capitalize())
    if draw < 0.93:
        return _oddity(rng, several_words(rng))
    return _oddity(rng, f"{rng.choice(_PREFIXES)} {_word(rng)}")


def real_name(rng: random.Random) -> str:
    """A real name that training may see."""
    return rng.choice(_REAL_NAMES)


def held_out_name(rng: random.Random) -> str:
    """A real name that training never sees."""
    return rng.choice(HELD_OUT_NAMES)


def several_words(rng: random.Random) -> str:
    """An invented name of two or three words."""
    return " ".join(_word(rng) for _ in range(2 if rng.random() < 0.75 else 3))


def with_initial(initial: str, source: NameSource) -> NameSource:
    """The same source, but every name begins with `initial`."""

    def draw(rng: random.Random) -> str:
        drawn = source(rng)
        same = [known for known in _REAL_NAMES if known.startswith(initial)]
        if same and rng.random() < 0.45:
            return rng.choice(same)
        return drawn if drawn in _REAL_NAMES and drawn.startswith(initial) else initial + drawn[1:].lower()

    return draw


def syllables(rng: random.Random) -> str:
    """A pronounceable word."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3))) + rng.choice(["", "n", "s", "r", "l"])


def letters(rng: random.Random, shortest: int, longest: int) -> str:
    """A word of random letters."""
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(shortest, longest)))


def mangled(rng: random.Random, original: str) -> str:
    """A real name with one to three letters changed: real letter statistics, unseen names."""
    changed = list(original.lower())
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(changed))
        if changed[place].isalpha():
            changed[place] = rng.choice(string.ascii_lowercase)
    return " ".join(word.capitalize() for word in "".join(changed).split())


def common_word(rng: random.Random, known: Sequence[str]) -> str:
    """An attribute or relation: half the time a known one, else an invented word."""
    draw = rng.random()
    if draw < 0.5:
        return rng.choice(known)
    if draw < 0.66:
        return letters(rng, 3, 8)
    if draw < 0.80:
        return syllables(rng)
    if draw < 0.90:
        return syllables(rng)[:6] + rng.choice(["s", "er", "or", "ers", "es", "ings"])
    return common_word(rng, known).split()[0] + " " + common_word(rng, known).split()[-1]


def text_value(rng: random.Random, source: NameSource) -> str:
    """The value of a fact that is not a number: a name, some words, or a short list."""
    draw = rng.random()
    if draw < 0.40:
        return source(rng)
    if draw < 0.52:
        return rng.choice(MONEY)
    if draw < 0.60:
        return " ".join(syllables(rng) for _ in range(rng.randint(1, 3)))
    if draw < 0.64:
        return f"{rng.randint(1, 28)} {syllables(rng).capitalize()} {rng.randint(1000, 2030)}"
    count = rng.randint(2, 5) if rng.random() < 0.8 else rng.randint(6, 14)
    listed = real_name if rng.random() < 0.6 else source
    return ", ".join(listed(rng) for _ in range(count))


def _word(rng: random.Random) -> str:
    return (syllables(rng) if rng.random() < 0.6 else letters(rng, 3, 8)).capitalize()


def _oddity(rng: random.Random, chosen: str) -> str:
    draw = rng.random()
    if draw < 0.02:
        return chosen.translate(_ACCENTS)
    if draw < 0.04:
        return f"{chosen}-{_word(rng)}"
    if draw < 0.06:
        return chosen.lower()
    if draw < 0.07:
        return f"{chosen[0]}'{chosen[1:].capitalize()}"
    return chosen
