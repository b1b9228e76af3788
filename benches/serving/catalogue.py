"""Generated videos, users and likes.

Videos belong to topics; a topic has its own words, a few makers and a few genres. A user has three topics, and draws four of five
likes from them and the rest from everywhere, in each case with a probability that falls with the video's rank. So there is
something to learn, with a long tail, and vectors come in clusters of uneven size, as trained ones do.
"""

import datetime
import uuid

import numpy as np

TOPICS_PER_USER = 3
SHARE_OF_TOPICS = 0.8
DAYS = 180
END = datetime.datetime(2026, 11, 1, tzinfo=datetime.timezone.utc)
VIDEOS_PER_TOPIC = 200
MAKERS_PER_TOPIC = 5
GENRES = 24
WORDS_PER_TOPIC = 40


def topics(videos):
    return max(8, videos // VIDEOS_PER_TOPIC)


def video_id(position):
    return uuid.UUID(int=(1 << 96) + position)


def user_id(number):
    return uuid.UUID(int=(2 << 96) + number)


def words(random, count):
    """Made-up words of three to eight letters."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return ["".join(random.choice(letters, size=random.integers(3, 9))) for _ in range(count)]


def videos(count, seed):
    """Rows for the table of videos, and the topic of each."""
    random = np.random.default_rng(seed)
    number = topics(count)
    sizes = np.exp(random.normal(0, 0.7, size=number))
    topic = random.choice(number, size=count, p=sizes / sizes.sum())
    vocabulary = words(random, min(number, 2000) * WORDS_PER_TOPIC // 4)
    base = random.integers(0, len(vocabulary) - WORDS_PER_TOPIC, size=number)
    picks = random.integers(0, WORDS_PER_TOPIC, size=(count, 3))
    makers = random.integers(0, MAKERS_PER_TOPIC, size=count)
    ages = random.random(count) * 3 * DAYS
    prices = random.integers(1, 100, size=count)
    rows = []
    for position in range(count):
        at = int(topic[position])
        title = " ".join(vocabulary[base[at] + pick] for pick in picks[position])
        published = END - datetime.timedelta(days=float(ages[position]))
        rows.append(
            (video_id(position), title, f"genre {at % GENRES}", f"maker {at * MAKERS_PER_TOPIC + int(makers[position])}",
             float(prices[position]), published)
        )
    return rows, topic


def likes(topic, users, likes_per_user, seed):
    """(user, video, time) in order of time within a user."""
    random = np.random.default_rng([seed, 1])
    number = int(topic.max()) + 1
    # Within a topic and over all, position is rank after one shuffle.
    order = random.permutation(len(topic))
    members = [[] for _ in range(number)]
    for position in order:
        members[topic[position]].append(position)
    sizes = np.array([len(member) for member in members], float)
    popularity = np.sqrt(sizes) / np.sqrt(sizes).sum()
    rows = []
    for user in range(users):
        own = random.choice(number, size=TOPICS_PER_USER, p=popularity)
        wanted = likes_per_user
        chosen = {}
        while len(chosen) < wanted:
            from_topic = random.random(wanted) < SHARE_OF_TOPICS
            which = random.integers(0, TOPICS_PER_USER, size=wanted)
            # Squared uniform numbers: low ranks more often.
            at = random.random(wanted) ** 2
            for n in range(wanted):
                pool = members[own[which[n]]] if from_topic[n] and members[own[which[n]]] else order
                chosen.setdefault(int(pool[int(at[n] * len(pool))]))
        times = np.sort(random.random(wanted)) * DAYS
        for video, days in zip(list(chosen)[:wanted], times):
            rows.append((user_id(user), video_id(video), END - datetime.timedelta(days=DAYS - float(days))))
    return rows
