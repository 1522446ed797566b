"""A process that trains several trials at once. One Tune trial is one lane; the driver's referee deals trials to it.

Each `step` trains one report interval of trials that go together (`trainable.pack`), in turn, and returns
    results     one for each of them, as in `trainable.course`, with `trial`, its number; or `lost`: why, when it
                raised together with others, and is to be dealt again
    slots       how many trials it can hold
    itself      on the first one: the actor's handle, through which the referee answers
    unreachable as in `trainable.trial`
The referee answers each result with `answer`, before Tune asks for the next one: who is stopped, and who comes.

A trial that cannot be packed is trained by itself.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from trainable.config import parsed
from trainable.course import Course, failed
from trainable.faults import ordinary
from trainable.report import Report
from trainable.trial import Worker

IDLE_SECONDS = 0.1  # between two questions whether there is work


class Lane(Worker):
    """Its config holds `slots`: how many trials it holds, 0 for as many as train fastest here, up to `limit`."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin, empty. Tune does not use a lane's process for another."""
        from trainable.pack import fastest

        self._courses: dict[int, Course] = {}  # trial -> where it stands
        self._again: dict[int, deque[Report]] = {}  # from checkpoints, to be sent once more
        self._ended: list[tuple[int, dict[str, Any]]] = []  # results of trials that could not even begin
        self._answered = False
        self._told = False  # who we are
        self._asked, self._limit = int(new_config["slots"]), int(new_config["limit"])
        self._most = fastest(self._setting.data, limit=self._asked or self._limit)  # trained together
        return True

    @property
    def _slots(self) -> int:
        """As many trials of every shape here as train fastest together."""
        from trainable.pack import shape

        shapes = {shape(course.state.config) for course in self._courses.values() if course.state is not None}
        return self._asked or min(self._limit, self._most * max(1, len(shapes)))

    def answer(self, stopped: list[int], dealt: list[dict[str, Any]]) -> None:
        """The referee's verdict on the last results, and new trials: messages as `sweeps.engine.search` deals them."""
        from trainable.batches import steps_per_epoch

        self._answered = True
        for number in stopped:
            self._courses.pop(number, None)
            self._again.pop(number, None)
        for message in dealt:
            number, course = message["trial"], Course(message, self._setting)
            try:
                with ordinary():
                    again = deque(course.begin())
                    steps_per_epoch(parsed(message["config"]), len(self._setting.data.y_train))
                self._again[number], self._courses[number] = again, course
            except Exception as error:
                self._ended.append((number, course.sent(failed(error))))

    def step(self) -> dict[str, Any]:
        if not self._told:
            if unreachable := self._unreachable():
                return {"unreachable": unreachable}
            self._told = True
            return {"itself": self._itself(), "results": [], "slots": self._slots}
        if not self._courses and not self._ended:
            time.sleep(IDLE_SECONDS)
        results, self._ended = self._ended, []
        if self._answered:  # else the answer is still on its way
            self._answered = False
            results += self._trained()
        for number, result in results:
            if result.get("done") or "lost" in result:
                self._courses.pop(number, None)
                self._again.pop(number, None)
        return {"results": [{"trial": number, **result} for number, result in results], "slots": self._slots}

    def cleanup(self) -> None:
        """Tune ends this process: keep what the trials have reached."""
        for course in self._courses.values():
            course.keep()

    def _trained(self) -> list[tuple[int, dict[str, Any]]]:
        """Results of what is remembered; if there is none, of the trials that are trained together next."""
        from trainable.pack import train_together, unpackable
        from trainable.train import train_alone

        if remembered := [number for number in self._courses if self._again[number]]:
            return [(n, self._said(self._courses[n], self._again[n].popleft())) for n in remembered]
        group = self._next_group()
        states = [course.state for course in group.values() if course.state is not None]
        if not states:
            return []
        packed = unpackable(states[0].config, self._setting.data) is None
        try:
            train = train_together if packed else lambda some, data: [train_alone(some[0], data)]
            with ordinary():
                reports = train(states, self._setting.data)
        except Exception as error:
            told = failed(error)
            if "out of memory" in told["reason"]:
                self._most = max(1, len(group) // 2)
            if len(group) > 1:  # who of them is to blame is found by training them apart
                return [(number, {"lost": told["reason"]}) for number in group]
            return [(number, course.sent(told)) for number, course in group.items()]
        pairs = zip(group.items(), reports, strict=True)
        return [(number, self._said(course, report)) for (number, course), report in pairs]

    def _next_group(self) -> dict[int, Course]:
        """The trial that has waited longest, and those that can be trained with it: at most as many as is fastest."""
        from trainable.pack import groups, unpackable

        data = self._setting.data
        numbers = {id(course.state): number for number, course in self._courses.items()}
        states = [course.state for course in self._courses.values() if course.state is not None]
        chosen = states[:1]
        if chosen and unpackable(chosen[0].config, data) is None:
            chosen = groups([one for one in states if unpackable(one.config, data) is None], data, self._most)[0]
        group = {numbers[id(state)]: self._courses.pop(numbers[id(state)]) for state in chosen}
        self._courses |= group  # to the end of the line
        return group

    def _said(self, course: Course, report: Report) -> dict[str, Any]:
        try:
            result = course.result(report)
        except Exception as error:
            result = failed(error)
        try:
            return course.sent(result)
        except OSError as error:  # a confirmed model that could not be written
            return {"lost": f"{type(error).__name__}: {error}"}
