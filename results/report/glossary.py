"""The glossary at the end of the page, and the link from a term's first use to it."""

from __future__ import annotations

import re

from markupsafe import escape

GLOSSARY = {
    "answer": "what a sweep found: a difference, its interval, and how it was measured.",
    "arm": "one of the alternatives that the sweep compares; the first one is the control.",
    "attempt": "one execution of a trial; a trial whose process died resumes as its next attempt.",
    "audit": "training of some early-stopped trials to the end, to see whether early stopping stopped a winner.",
    "bootstrap": "drawing trials again, with replacement, many times: how much a figure changes shows how sure it is.",
    "confirmation": "retraining of the best configuration of each search on fresh seeds; only these are scored on the "
    "test split.",
    "early stopping": "ending poor trials at a rung, so that good ones get the epochs.",
    "epoch": "one pass of a training over its data.",
    "importance": "the share of a hyperparameter in what decides whether a trial is among the best, from 0% to 100%.",
    "interval": "the range that contains the true value in 95% of such sweeps, unless another level is given.",
    "objective": "the metric by which trials are compared.",
    "Pareto front": "the trials that no other trial beats in every objective.",
    "PED-ANOVA": "the estimate of importance that Optuna uses by default (Watanabe et al. 2023).",
    "points": "percentage points: from 98.0% to 98.5% are 0.5 points.",
    "pruned": "stopped early; Optuna's term for it.",
    "rank correlation": "Spearman's: 1 when two orders of the trials agree, 0 when one tells nothing of the other, "
    "-1 when they are opposite.",
    "refit": "a further training of the best configuration, from which the kept model is chosen; the answer uses no "
    "score of it.",
    "rung": "an epoch at which trials are compared and the poor ones are stopped.",
    "search": "one independent study of an arm, with its own trials and its own best configuration; the answer counts "
    "searches.",
    "seed": "the number that decides initial weights, sample order and noise of a training.",
    "settings": "the values of the hyperparameters of a trial.",
    "test split": "the samples that no search sees; confirmed trials are scored on them once.",
    "trial": "the training of one set of hyperparameters.",
    "untuned": "trained with the default of everything that the sweep searches.",
    "validation": "scoring on samples that are not trained on, but by which trials are chosen.",
    "winner's curse": "the best of many noisy scores is partly luck: on fresh seeds the same settings score less.",
    "worker": "a process that trains trials.",
    "worth": "the smallest difference that one cares about, fixed before the first test score.",
}
_FORMS = {"confirmed": "confirmation", "searches": "search", "stopped early": "early stopping"}  # beside the plural
_TOKEN = re.compile(r"<(/?)([a-zA-Z0-9!]+)[^>]*>|[^<]+")
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*( \d+)?")
_LINKED_IN = frozenset({"p", "li", "dt", "figcaption"})
_NEVER_IN = frozenset(
    {"a", "button", "code", "footer", "header", "label", "noscript", "pre", "script", "style", "title"}
)


def anchor(term: str) -> str:
    """The id of the term's entry: 'term-winner-s-curse'"""
    return "term-" + re.sub(r"[^a-z]+", "-", term.lower())


def link_first_uses(page: str) -> str:
    """Link the first use of each term, in running text, to its entry, which is also the link's tooltip. A flag with its
    number is not broken over lines.

    `page` is HTML in which every `<` and `>` of a text is escaped.
    """
    pending = {text.lower(): term for term in GLOSSARY for text in (term, f"{term}s")}
    pending |= _FORMS
    done: set[str] = set()
    open_tags: list[str] = []
    parts = []

    def linked(match: re.Match[str]) -> str:
        term = pending[match[0].lower()]
        if term in done:
            return match[0]
        done.add(term)
        # the page's own text, which is escaped, stands between the tags
        return f'<a class="term" href="#{anchor(term)}" title="{escape(GLOSSARY[term])}">{match[0]}</a>'

    words = "|".join(sorted((re.escape(str(escape(text))) for text in pending), key=len, reverse=True))
    pending |= {str(escape(text)): term for text, term in pending.items()}
    use = re.compile(rf"(?<![\w&-])({words})(?![\w-])", re.IGNORECASE)
    for token in _TOKEN.finditer(page):
        closing, tag = token[1], (token[2] or "").lower()
        if tag in _LINKED_IN | _NEVER_IN:
            if not closing:
                open_tags.append(tag)
            elif tag in open_tags:
                del open_tags[len(open_tags) - 1 - open_tags[::-1].index(tag) :]
        in_text = not tag and _LINKED_IN & set(open_tags) and not _NEVER_IN & set(open_tags)
        text = use.sub(linked, token[0]) if in_text else token[0]
        parts.append(_FLAG.sub(r'<span class="flag">\g<0></span>', text) if in_text else text)
    return "".join(parts)
