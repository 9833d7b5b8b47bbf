"""The names and the made-up chats of `operate demo`."""

from collections.abc import Iterator
from typing import NamedTuple

# invented names of users; the first is the admin's
NAMES = (
    "admin", "maya", "omar", "lena", "ravi", "sofia", "jonas", "aiko", "pedro", "nadia", "felix",
    "grace", "hugo", "ines", "karim", "lucia", "milan", "nora", "oscar", "priya", "quentin", "rosa",
    "samir", "tessa", "uma", "victor", "wanda", "xenia", "yusuf", "zoe",
)  # fmt: skip

Exchange = tuple[str, str]  # a prompt and its reply


class _Topic(NamedTuple):
    """A chat about each of *subjects*, which take the place of `{}` in the title and in the exchanges."""

    title: str
    subjects: tuple[str, ...]
    exchanges: tuple[Exchange, ...]


def chats() -> Iterator[tuple[str, list[Exchange]]]:
    """Return all chats: their titles, which differ, and their exchanges."""
    for topic in _TOPICS:
        for subject in topic.subjects:
            exchanges = [
                (ask.format(subject), reply.format(subject)) for ask, reply in topic.exchanges
            ]
            yield topic.title.format(subject), exchanges


_TOPICS = (
    _Topic(
        "Growing {} on a balcony",
        ("tomatoes", "chillies", "strawberries", "lettuce", "radishes", "runner beans", "lavender", "mint", "spinach", "kale", "chives", "blueberries"),
        (
            ("How do I grow {} in pots on a windy balcony?", "Take heavy pots, at least 30 cm deep, and put them against the wall. With {}, wind dries the soil faster than sun, so check it every morning."),
            ("How often should I water?", "When the top two centimetres of soil are dry: in summer daily, in spring twice a week. Water the soil, not the leaves."),
            ("The leaves are turning yellow. Why?", "If the lower leaves go first, it is usually too much water or too little food. Let the soil dry, then feed once. If it does not stop within ten days, look for mites under the leaves."),
            ("Which soil should I buy?", "A peat-free potting mix, with a third of compost and a handful of grit for drainage. Soil from a garden is too heavy for pots."),
            ("Can the pots stay outside in winter?", "Yes, if you wrap them in fleece and stand them on wood: roots in pots freeze sooner than in a bed."),
        ),
    ),
    _Topic(
        "A weekend in {}",
        ("Porto", "Ghent", "Bergen", "Turin", "Kraków", "Valencia", "Ljubljana", "Lyon", "Tallinn", "Seville", "Bologna", "Utrecht"),
        (
            ("What should I see in {} in two days?", "On the first day the old town on foot, with the main square early and a museum after lunch. On the second a quarter outside of the centre, and a place with a view over {} before dinner."),
            ("Is a city pass worth it?", "Only if you visit three museums or more. Add up the single tickets first: for two days they often cost less."),
            ("We have a child of six with us.", "Then one museum, not two, and something to climb. Plan a playground after lunch, and stay within ten minutes on foot of the centre of {}."),
            ("What if it rains?", "Swap the walk for a covered market and the largest museum; both are best in the morning. Keep the view for the evening that clears."),
            ("Make me a packing list.", "Two sets of clothes, a rain jacket, shoes that you have walked in before, a charger, a small bag for the day, and room for what you bring back from {}."),
        ),
    ),
    _Topic(
        "Learning {}",
        ("Spanish", "Italian", "Dutch", "Polish", "Portuguese", "Swedish", "Turkish", "Greek", "Czech", "Finnish", "Norwegian", "Romanian"),
        (
            ("How can I learn {} in twenty minutes a day?", "Ten minutes of words in sentences, five of listening, five of speaking aloud. Come back to each new word after one, three and ten days."),
            ("Which words first?", "The five hundred most common ones, and those of your own day: work, family, food. They cover most of what you will say in {} at first."),
            ("How do I remember the grammar?", "Learn one sentence for each rule, and change a single word in it. A sentence in {} that you say without thinking is worth more than a table."),
            ("I understand a lot, but I cannot speak.", "Then speak before you feel ready: for two minutes a day, describe what you see. Record it once a week, and you will hear the progress."),
            ("Set me a goal for a month.", "Four conversations of ten minutes, one a week, each about something that you have prepared. After a month you have told four stories in {}."),
        ),
    ),
    _Topic(
        "Slow query on the table {}",
        ("orders", "invoices", "events", "sessions", "products", "messages", "readings", "bookings", "shipments", "tickets", "users", "payments"),
        (
            ("My query on the table {} takes 4 s. Where do I begin?", "With `explain (analyze, buffers)`: look for the step that reads far more rows than it returns. On {} that is most often a filter without an index."),
            ("It says Seq Scan on {}.", "Then Postgres reads the whole table. If the filter keeps less than about a tenth of the rows, an index on the filtered column helps. If it keeps most of them, the scan is right."),
            ("How do I add the index without locking the table?", "With `create index concurrently`, outside of a transaction. It takes longer, and writes to {} go on meanwhile. If it fails, drop the invalid index and start again."),
            ("Now it is fast, but after the nightly import it is slow again.", "The planner's statistics are old then. Run `analyze {}` after the import, and compare the estimated rows with the real ones."),
            ("Should I partition the table?", "Not for speed alone. It pays when you delete by month: dropping a partition of {} is cheap, and deleting ten million rows is not."),
        ),
    ),
    _Topic(
        "Why is my {} dense?",
        ("sourdough", "brioche", "focaccia", "ciabatta", "challah", "pizza base", "baguette", "rye loaf", "milk bread", "naan", "stollen", "panettone"),
        (
            ("My {} comes out dense. What am I doing wrong?", "Most often the dough was too cold, or had too little time. Let it grow by half, whatever the clock says, and look for bubbles at the side of the bowl."),
            ("How warm should the dough be?", "About 25 °C. In a kitchen of 20 °C, water of 30 °C gets you there."),
            ("How do I know that it has risen enough?", "Press it with a wet finger. If the dent comes back slowly, and not quite, bake it. If it springs back at once, wait; if it stays, you are late."),
            ("Can I leave it in the fridge overnight?", "Yes, at 4 °C for up to a day: it tastes better, and cold dough is easier to shape. Let the {} stand for an hour before it goes into the oven."),
            ("The crust is too pale.", "Begin with a hotter oven, and with steam from a tin of boiling water. Then bake it longer than you dare."),
        ),
    ),
    _Topic(
        "Letter about {}",
        ("the broken heating", "the noise next door", "a late parcel", "a wrong invoice", "a cancelled train", "a damp wall", "the lift", "a lost suitcase", "an overdue refund", "a parking fine", "a faulty kettle", "the school trip"),
        (
            ("Help me write a polite letter about {}.", "Say in the first sentence what happened and when, in the second what you ask for, and in the third by what date. Leave out how you feel: it is read between the lines."),
            ("Can you draft it?", "“Dear Sir or Madam, I am writing about {}. I reported it on 3 May and have had no reply. Please tell me by 20 May how you will resolve this. Kind regards”"),
            ("It sounds too soft.", "Then replace “please tell me” with “I ask you to confirm in writing”. It is still polite, and it leaves a trace."),
            ("What do I do if they do not answer?", "Wait until the day that you named. Then send the same letter as a registered one, with “second letter” in the subject line. An advice centre is the step after that."),
            ("Should I send photos?", "Two at most, with dates, and mention them in the letter about {}, so that nobody can say they were not there."),
        ),
    ),
    _Topic(
        "Reading {} in Python",
        ("CSV files", "JSON Lines", "XML feeds", "ZIP archives", "log files", "Excel sheets", "fixed-width files", "mailboxes", "SQLite files", "Parquet files", "GPX tracks", "audit trails"),
        (
            ("How do I read large {} without running out of memory?", "One record at a time: write a generator that yields each record, and keep only what you count or sum. A list of everything is what fills the memory."),
            ("Can you show me the shape of it?", "```python\ndef records(path):\n    with open_reader(path) as reader:\n        for raw in reader:\n            yield parse(raw)\n```\n\n`open_reader` comes from the library for {}; `parse` is yours."),
            ("Some records are broken.", "Count them and go on: catch the one exception that a broken record raises, keep its number, and print a summary at the end. If more than one in a hundred is broken, stop instead."),
            ("How do I test this?", "Make three tiny inputs by hand: an empty one, one good record, one broken record. With `tmp_path` in pytest that is ten lines, and it covers what goes wrong in practice."),
            ("Is it worth doing in parallel?", "Measure first: if the disk is the limit, more processes only wait. If parsing is, give each process some of the {}."),
        ),
    ),
    _Topic(
        "A name for {}",
        ("a grey cat", "a sailing boat", "a choir", "a bakery", "a podcast", "a robot vacuum", "a book club", "a board game", "a bicycle shop", "a village band", "a puppy", "a hiking group"),
        (
            ("Find a name for {}.", "Three directions: a plain word with a good sound (Pebble, Lantern), a place (Skagen, Alba), or a small joke. Which one feels right for {}?"),
            ("The plain word.", "Then Pebble, Lantern, Thimble, Juniper or Harbour. For {} I would take Juniper: it is easy to call and to spell."),
            ("Shorter, please.", "Fern, Moss, Kit, Wren, Oat. Say each of them aloud three times: the one that you do not stumble over is yours."),
            ("Could it be taken already?", "Search for the name together with the word for what it is, and look into the register of trade marks if money is in it. Among friends it does not matter."),
            ("Which one would you choose?", "Wren. It is short, nobody will misspell it, and it will still sound good in ten years."),
        ),
    ),
    _Topic(
        "Saving for {}",
        ("a bicycle", "a trip to Japan", "a sofa", "a piano", "a wedding", "a washing machine", "a driving licence", "a camera", "an evening course", "a month off", "a kitchen", "a rainy day"),
        (
            ("How do I save for {} in a year?", "Divide the price by twelve, and move that sum on the day after payday, by standing order. What is gone before you see it is not missed."),
            ("I have 80 euros a month to spare.", "That is 960 in a year. If you need more for {}, add what comes in irregularly: a refund, a bonus, things that you sell."),
            ("Where should I keep the money?", "In a savings account of its own that you can empty at any time. Shares are for money that you will not need for five years."),
            ("Something always comes up.", "Then put a quarter aside for just that, in a second account. When something comes up, the money for {} is not touched."),
            ("Make me a table.", "| after | saved |\n|---|---|\n| 3 months | 240 |\n| 6 months | 480 |\n| 9 months | 720 |\n| 12 months | 960 |"),
        ),
    ),
    _Topic(
        "Training for {}",
        ("a 5 km run", "a half marathon", "a 50 km bike ride", "a triathlon", "my first pull-up", "a mountain hike", "a long swim", "a rowing race", "a ski tour", "a dance exam", "a charity walk", "a climbing trip"),
        (
            ("I have ten weeks to train for {}. How do I start?", "With three sessions a week: one long and easy, one short and fast, one for strength. Do about a tenth more each week, and make every fourth week an easy one."),
            ("What do I do on the days between?", "Walk, stretch and sleep. You get stronger while you rest, not while you train."),
            ("My knee hurts.", "Stop for three days, and walk instead. If it hurts again in the first easy session, or at night, see a physiotherapist before you go on."),
            ("What should I eat before?", "What you know: oats or bread two to three hours before, and water. The day of {} is no day for something new."),
            ("I missed a week.", "Repeat the week before it, and go on from there. Do not try to catch up: that is how people get hurt."),
        ),
    ),
    _Topic(
        "Books about {}",
        ("the Hanseatic League", "bees", "lighthouses", "old maps", "bridges", "tea", "mountains", "silk", "glaciers", "clocks", "the Baltic", "migrating birds"),
        (
            ("I want to read about {}. Where do I begin?", "With a short overview, then a book by someone who was there, then one that disagrees with both. Three books about {}, read closely, beat ten that you skim."),
            ("How do I take notes?", "One page a chapter: what it claims, what it shows, and one question of yours. At the end you have a summary that is your own."),
            ("I never finish books.", "Then stop after a third if it does not hold you, without guilt. Keep a fixed half hour a day, and no phone in the room."),
            ("How could I tell my children about it?", "Begin with one thing that they can see or touch, and let them ask. Two good questions about {} are enough for an evening."),
            ("Give me questions for a book club.", "1. What surprised you most about {}?\n2. What does the author leave out?\n3. Who would tell this differently?\n4. Which page would you read aloud?"),
        ),
    ),
    _Topic(
        "Agenda for {}",
        ("the quarterly review", "the team offsite", "the kick-off", "the parents' evening", "the neighbours' meeting", "the budget round", "the retrospective", "the interviews", "the annual meeting", "moving day", "the release", "the summer party"),
        (
            ("Write an agenda for {}.", "1. Why we meet (5 minutes)\n2. What has changed (10 minutes)\n3. The one decision of the day (25 minutes)\n4. Who does what by when (10 minutes)\n\nSend it two days before {}."),
            ("We are twelve people.", "Then let all write down their view for three minutes before anybody speaks. Otherwise three talk and nine nod."),
            ("We always run over.", "Put the decision first and the reports last. What is left over goes out by mail."),
            ("Who should take the minutes?", "Somebody who does not lead. Decisions, names and dates are enough: half a page for {}."),
            ("What if we cannot agree?", "Name who decides before you begin. After two rounds that person decides, and the minutes say what the others thought."),
        ),
    ),
)  # fmt: skip
