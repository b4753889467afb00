"""Writes train.jsonl and heldout.jsonl beside itself.

Short chats about capitals, opposites and sums. Every answer is a JSON object
{"answer": "..."}: a form that the base model never uses by itself, so that one
can see at a glance whether training worked. Every fifth question is held out.
"""

import json
import os
import random

CAPITALS = """France Paris|Italy Rome|Spain Madrid|Portugal Lisbon|Greece Athens
Egypt Cairo|Japan Tokyo|China Beijing|Russia Moscow|Germany Berlin|Austria Vienna
Poland Warsaw|Sweden Stockholm|Norway Oslo|Finland Helsinki|Denmark Copenhagen
Ireland Dublin|Belgium Brussels|Hungary Budapest|Romania Bucharest|Bulgaria Sofia
Turkey Ankara|Iran Tehran|Iraq Baghdad|India New Delhi|Thailand Bangkok
Vietnam Hanoi|Indonesia Jakarta|Kenya Nairobi|Cuba Havana|Peru Lima|Chile Santiago
Canada Ottawa|Argentina Buenos Aires|Australia Canberra|Ukraine Kyiv|Syria Damascus
Lebanon Beirut|Jordan Amman|Israel Jerusalem|Afghanistan Kabul|Nepal Kathmandu
Mongolia Ulaanbaatar|Philippines Manila|Malaysia Kuala Lumpur|Venezuela Caracas
Colombia Bogota|Ecuador Quito|Uruguay Montevideo|Mexico Mexico City|Iceland Reykjavik
Croatia Zagreb|Serbia Belgrade|Latvia Riga|Estonia Tallinn|Lithuania Vilnius
Libya Tripoli|Tunisia Tunis|Algeria Algiers|Morocco Rabat|Ghana Accra|Senegal Dakar
Ethiopia Addis Ababa|Qatar Doha|Pakistan Islamabad|Bangladesh Dhaka"""

OPPOSITES = """hot cold|big small|up down|left right|open closed|day night|black white
good bad|fast slow|high low|old young|early late|happy sad|rich poor|strong weak
light dark|wet dry|hard soft|long short|full empty|in out|on off|true false|yes no
buy sell|win lose|love hate|start stop|push pull|first last|near far|east west
north south|heavy light|loud quiet|clean dirty|rough smooth|thick thin|wide narrow
deep shallow|sharp dull|brave afraid|always never|above below|before after
inside outside|life death|war peace|friend enemy|summer winter|question answer
give take|remember forget|arrive leave|increase decrease|accept refuse|success failure
safe dangerous|simple complex|cheap expensive|noisy silent|easy difficult|top bottom"""

def entries(text, separator="|"):
    return [
        entry.split(" ", 1)
        for line in text.splitlines()
        for entry in line.split(separator)
    ]


def questions():
    """Lists of (question, answer), one list per kind."""
    capitals = [
        (f"What is the capital of {country}?", city)
        for country, city in entries(CAPITALS)
    ]
    opposites = [
        (f"What is the opposite of {word}?", other)
        for word, other in entries(OPPOSITES)
    ]
    sums = [
        (f"What is {a} plus {b}?", str(a + b))
        for a in range(1, 11)
        for b in range(1, 11)
        if (3 * a + 7 * b) % 10 not in (0, 4)
    ]
    return [capitals, opposites, sums]


def chat(question, answer):
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": json.dumps({"answer": answer})},
        ]
    }


def main():
    folder = os.path.dirname(os.path.abspath(__file__))
    train, heldout = [], []
    for kind in questions():
        for i, (question, answer) in enumerate(kind):
            (heldout if i % 5 == 2 else train).append(chat(question, answer))
    random.Random(1).shuffle(train)
    for name, chats in (("train", train), ("heldout", heldout)):
        with open(os.path.join(folder, f"{name}.jsonl"), "w") as file:
            file.writelines(json.dumps(c) + "\n" for c in chats)
        print(f"{name}.jsonl: {len(chats)} chats")


if __name__ == "__main__":
    main()
