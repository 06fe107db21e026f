"""Structured captions and chained prompts: answers written before the parser, then whole runs."""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gemma_captioner import Captioned, Failed, Settings, caption
from gemma_captioner.captions.flags import evaluate, evaluate_texts
from gemma_captioner.captions.formats import CaptionFormat, FormatError, detect, get_format
from gemma_captioner.captions.formats.json_text import parse_object
from gemma_captioner.captions.limits import estimated_tokens
from gemma_captioner.check.inspect import inspect_caption
from gemma_captioner.check.settings import CheckSettings
from gemma_captioner.check.trainer_rules import _not_json
from gemma_captioner.config.formats import FORMATS, format_spec
from gemma_captioner.config.targets import token_limit
from gemma_captioner.engines.scripted import Script, ScriptedEngine, ScriptedSession
from gemma_captioner.pipeline.postprocess import CaptionCheck, postprocess_reply
from gemma_captioner.types import Reply, Request
from tests.support.engines import answers, request
from tests.support.files import captions, journal
from tests.support.servers import HttpRequest, HttpResponse, StubServer, completion
from tests.test_server import session

_DATA = Path(__file__).parent / "data" / "formats.jsonl"
ANSWERS = [json.loads(line) for line in _DATA.read_text(encoding="utf-8").splitlines()]
STRUCTURED = [name for name in FORMATS if name != "prose"]


@cache
def shipped(name: str) -> CaptionFormat[Any]:
    return get_format(format_spec(name))


def check(answer: str, name: str, *, duration_s: float | None = None, truncated: bool = False, **more) -> CaptionCheck:
    reply = Reply(0, answer, "length" if truncated else "stop", 0, 0, 0.0)
    settings = Settings.from_dict({"format": name, **more})
    return postprocess_reply(reply, "Describe it.", settings, {}, shipped(name), duration_s=duration_s)


def check_known(known: dict[str, Any]) -> CaptionCheck:
    return check(
        known["answer"], known["format"], duration_s=known.get("duration"), language=known.get("language", "english")
    )


# Answers


@pytest.mark.parametrize("outcome", ["good", "repairable", "hopeless"])
@pytest.mark.parametrize("name", STRUCTURED)
def test_answers(name, outcome):
    known = [answer for answer in ANSWERS if (answer["format"], answer["outcome"]) == (name, outcome)]
    assert len(known) == 10
    for answer in known:
        found = check_known(answer)
        if outcome == "hopeless":
            assert not found.caption and answer["reason"].lower() in found.rejection.lower(), answer["why"]
        else:
            assert (found.rejection, found.caption) == (None, answer["caption"]), answer["why"]


def test_answers_by_someone_who_never_saw_the_parser():
    """150 answers, labeled from the published rules of each format alone. "open": the rules allow either outcome."""
    known = [json.loads(line) for line in (_DATA.parent / "formats-independent.jsonl").read_text("utf-8").splitlines()]
    wrong = [k for k in known if bool(check(k["answer"], k["format"]).caption) == (k["expected"] == "reject")]
    assert len(known) == 150
    assert [k["reason"] for k in wrong if not k["open"]] == []
    assert len(wrong) <= 3


def test_a_remark_after_a_code_fence_is_no_part_of_the_last_field():
    good = next(k["answer"] for k in ANSWERS if (k["format"], k["outcome"]) == ("minimax-h3", "good"))
    assert check(f"Here:\n```\n{good}\n```\nThis covers the whole clip.", "minimax-h3") == check(good, "minimax-h3")


def test_one_field_may_say_none_but_not_all():
    """FIBO's schema has fields such as the direction of the light."""
    good = next(json.loads(k["answer"]) for k in ANSWERS if (k["format"], k["outcome"]) == ("fibo", "good"))
    good["lighting"]["direction"] = "none"
    assert check(json.dumps(good), "fibo").caption
    assert evaluate_texts(["none", "N/A"]) == ("empty",)


def test_a_caption_of_choices_alone_is_one(tmp_path):
    """As a server gives them that enforces the schema."""
    properties = {"shape": {"enum": ["circle", "star"]}, "moves": {"type": "boolean"}}
    (file := tmp_path / "a.json").write_text(json.dumps({"type": "object", "properties": properties}))
    for answer, expected in (('{"shape": "star", "moves": true}', '{"shape":"star","moves":true}'), ("{}", "")):
        reply = Reply(0, answer, "stop", 0, 0, 0.0)
        settings = Settings.from_dict({"format": str(file)})
        assert (
            postprocess_reply(reply, "What is it?", settings, {}, get_format(format_spec(str(file)))).caption
            == expected
        )


def test_a_caption_that_is_written_is_read_as_the_same():
    for answer in ANSWERS:
        if answer["outcome"] != "hopeless":
            again = check_known({**answer, "answer": answer["caption"]})
            assert again.caption == answer["caption"]


def test_prose_rules_would_reject_structure_but_judge_the_texts_in_it():
    written = [answer["caption"] for answer in ANSWERS if answer.get("caption", "").startswith("{")]
    assert len(written) == 60
    rejected = [text for text in written if "repetition" in evaluate(text)]
    assert len(rejected) >= 40  # as prose
    for answer in ANSWERS:
        if answer["outcome"] == "good":
            assert not {"repetition", "not_in_language"} & set(check_known(answer).flags), answer["answer"]


@pytest.mark.parametrize(("name", "answer", "start", "end"), [
    ("ideogram4", 1, '{"high_level_description":"a photo of ohwx Three apples in a row on a linen cloth., grain', "}}"),
    ("ideogram4", 2, '{"compositional_deconstruction":{"background":"a photo of ohwx An empty beach', ":[]}}"),
    ("fibo", 0, '{"short_description":"a photo of ohwx A clay fox asleep on a shelf., grainy","objects"', '"}'),
    ("minimax-h3", 1, "integrated_multimodal_description: [Shot 1] a photo of ohwx 2D-animated, a wide", "slow tempo."),
    ("tags", 0, "a photo of ohwx, 1girl, solo", "outdoors, grainy"),
])  # fmt: skip
def test_trigger_prefix_and_suffix_go_into_the_field_of_the_format(name, answer, start, end):
    text = [known["answer"] for known in ANSWERS if known["format"] == name][answer]
    found = check(text, name, trigger="ohwx", prefix="a photo of ", suffix=", grainy").caption
    assert found.startswith(start) and found.endswith(end)
    assert check(found, name, trigger="ohwx", prefix="a photo of ", suffix=", grainy").caption == found


@pytest.mark.parametrize("name", ["ideogram4", "fibo", "tags"])
def test_what_is_too_long_loses_optional_parts_and_stays_whole(name):
    target = "sdxl" if name == "tags" else "ltx"
    limit, good = token_limit(target), [k["answer"] for k in ANSWERS if k["format"] == name and k["outcome"] == "good"]
    long = ", ".join(good) if name == "tags" else good[1]
    full, short = check(long, name), check(long, name, target=target)
    assert estimated_tokens(full.caption, limit.encoder) > limit.max_tokens
    assert estimated_tokens(short.caption, limit.encoder) <= limit.max_tokens
    assert "shortened" in short.flags and "too_long" not in short.flags
    assert check(short.caption, name).caption == short.caption  # valid
    if name == "ideogram4":
        assert "color_palette" not in short.caption and "high_level_description" in short.caption


def test_what_stays_too_long_is_kept_whole_and_flagged():
    known = next(k for k in ANSWERS if k["format"] == "minimax-h3")
    found = check(known["answer"], "minimax-h3", target="sdxl")
    assert found.flags[-1] == "too_long" and found.caption == known["caption"]


def test_an_answer_that_is_cut_off_is_no_caption_but_tags_lose_the_last():
    known = next(k for k in ANSWERS if k["format"] == "ideogram4")
    cut = check(known["answer"][:-40], "ideogram4", truncated=True)
    assert "raise --max-new-tokens" in cut.rejection and "write less" in cut.format_error
    assert check(known["answer"] + " And one more", "ideogram4", truncated=True).caption == known["caption"]
    tags = check("1girl, solo, red scarf, sno", "tags", truncated=True)
    assert (tags.caption, tags.flags) == ("1girl, solo, red scarf", ("truncated",))


# A schema of one's own

OWN = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$defs": {
        "Thing": {"type": "object", "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
                  "required": ["name"]},
    },
    "type": "object",
    "properties": {
        "kind": {"enum": ["photo", "drawing"]},
        "title": {"type": "string"},
        "sign": {"anyOf": [{"type": "string"}, {"type": "null"}], "x-verbatim": True},
        "caption": {"type": "string", "x-trigger": True},
        "things": {"type": "array", "items": {"$ref": "#/$defs/Thing"}},
        "where": {"type": "array", "items": {"type": "integer"}, "x-box": True},
    },
    "required": ["kind", "caption", "things"],
}  # fmt: skip


@pytest.fixture
def schema_file(tmp_path) -> Path:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(OWN))
    return path


def test_a_schema_of_ones_own(schema_file):
    own = get_format(format_spec(str(schema_file)))
    answer = {
        "things": [{"count": 2.0, "name": "cat\u2019s toy"}], "caption": "Two toys.", "kind": "PHOTO", "sign": None,
        "where": [1, 2, 3, 4],
    }  # fmt: skip
    content = own.add_affixes(own.parse(json.dumps(answer)), trigger="ohwx")
    assert own.render(content) == (
        '{"kind":"photo","sign":null,"caption":"ohwx Two toys.","things":[{"name":"cat\'s toy","count":2}],'
        '"where":[1,2,3,4]}'
    )
    with pytest.raises(FormatError, match=r"where: ymin, ymax: 9 is greater than 3"):
        own.parse(json.dumps(answer | {"where": [9, 2, 3, 4]}))


@pytest.mark.parametrize(("schema", "says"), [
    ({"type": "object"}, "is not the JSON Schema of an object"),
    ({"properties": {"a": {"type": "text"}}}, "is not a valid JSON Schema"),
    ({"properties": {"a": {"$ref": "https://example.com/a.json"}}}, "no such reference"),
    ({"properties": {"a": {"$ref": "#/$defs/a"}}}, "no such reference"),
])  # fmt: skip
def test_what_is_no_schema_is_told_before_a_run(command, media, script, schema_file, schema, says):
    schema_file.write_text(json.dumps(schema))
    for extra in ([], ["--dry-run"]):
        done = command("caption", media, "--engine", "scripted", "--model", script(), "--format", schema_file, *extra)
        assert done.code == 2 and says in done.err


def test_format_and_schema_are_part_of_the_settings_hash(schema_file):
    plain, prose = Settings.from_dict({}), Settings.from_dict({"format": "prose"})
    assert plain.settings_hash("image") == prose.settings_hash("image")
    hashes = {Settings.from_dict({"format": name}).settings_hash("image") for name in STRUCTURED}
    hashes.add((own := Settings.from_dict({"format": str(schema_file)})).settings_hash("image"))
    schema_file.write_text(json.dumps(OWN | {"required": ["kind"]}))
    hashes.add(Settings.from_dict({"format": str(schema_file)}).settings_hash("image"))
    assert len(hashes - {plain.settings_hash("image")}) == len(STRUCTURED) + 2
    assert own.max_new_tokens("image") == 2048
    assert Settings.from_dict({"format": "fibo", "max_new_tokens": 300}).max_new_tokens("image") == 300


def test_a_prompt_that_does_not_name_the_fields_gets_the_instructions():
    settings = Settings.from_dict({"format": "minimax-h3", "prompt": "Look at {stem}."})
    [prompt] = settings.prompts["clip"]
    assert prompt.startswith("Look at {stem}.\n\n") and "overall_soundscape" in prompt
    fields = "integrated_multimodal_description, overall_soundscape, non_diegetic_music"
    assert Settings.from_dict({"format": "minimax-h3", "prompt": fields}).prompts["clip"] == (fields,)
    [prompt] = Settings.from_dict({"format": "ideogram4"}).prompts["image"]
    shown = json.loads(prompt.partition("\n\n")[2].partition("\n")[2].replace("{{", "{").replace("}}", "}"))
    assert "compositional_deconstruction" in shown["properties"] and "x-trigger" not in prompt


# Runs


class Recorder(ScriptedEngine):
    """The scripted engine; it keeps the requests."""

    def __init__(self, **script: Any) -> None:
        super().__init__(Script(**script))
        self.requests: list[Request] = []

    def open(self) -> ScriptedSession:
        opened = super().open()
        submit = opened.submit

        def record(request: Request) -> None:
            self.requests.append(request)
            submit(request)

        opened.submit = record  # type: ignore[method-assign]
        return opened


def known(name: str, outcome: str, number: int = 0) -> dict[str, Any]:
    return [k for k in ANSWERS if (k["format"], k["outcome"]) == (name, outcome)][number]


def test_a_misfit_is_asked_for_again_with_the_reason_and_fails_with_its_answers(media):
    first, second = sorted(p.name for p in media.glob("*.png"))[:2]
    bad, good = known("ideogram4", "hopeless", 1), known("ideogram4", "good")
    engine = Recorder(replies={first: [bad["answer"], good["answer"]], second: bad["answer"]})
    done = list(caption(media, engine=engine, format="ideogram4", include=[first, second], retries=1))
    outcomes = {outcome.item.name: outcome for outcome in done}
    assert isinstance(outcomes[first], Captioned) and outcomes[first].caption == good["caption"]
    assert (media / first).with_suffix(".txt").read_text(encoding="utf-8") == good["caption"]
    failed = outcomes[second]
    assert isinstance(failed, Failed) and failed.rejected == (bad["answer"],) * 2
    assert "bbox[3]: 1690 is greater than the maximum of 1000" in failed.error
    prompts = [r.prompt for r in engine.requests if r.item.name == first]
    assert prompts[1].startswith(prompts[0]) and "bbox[3]: 1690 is greater" in prompts[1][len(prompts[0]) :]
    assert all(r.schema["required"] == ["compositional_deconstruction"] for r in engine.requests)
    assert "x-box" not in json.dumps(engine.requests[0].schema)
    [record] = [line for line in journal(media) if line.get("path") == first]
    assert (record["retries"], record["rejected"]) == (1, [bad["answer"]])


def test_h3_knows_the_length_of_the_clip_and_keeps_its_lines(media):
    clips = sorted(p.name for p in media.glob("*.mp4"))
    good = known("minimax-h3", "good", 4)
    late = known("minimax-h3", "good", 7)  # cuts after 1.2 s; these clips are shorter
    engine = Recorder(replies={clips[0]: good["answer"], clips[1]: late["answer"]})
    settings = {"format": "minimax-h3", "include": clips[:2], "retries": 0, "for": "simpletuner"}
    found = {o.item.name: o for o in caption(media, engine=engine, **settings)}
    assert (media / clips[0]).with_suffix(".txt").read_text(encoding="utf-8").count("\n\n") == 2
    assert "the clip ends at" in found[clips[1]].error
    assert all(r.schema is None for r in engine.requests)  # no JSON


def test_chained_prompts_give_one_caption_and_all_answers(command, media, script):
    name = min(p.name for p in media.glob("*.png"))
    path = script(default="{prompt} Said of it.", replies={name: ["A red cat {sits}.", "", "A cat.", "Red, fur, cat."]})
    prompts = ["--prompt", "Describe it.", "--prompt", "Shorten this: {previous}", "--prompt", "Name its colors."]
    done = command("caption", media, "--engine", "scripted", "--model", path, *prompts, "--trigger", "ohwx", "--json")
    assert done.code == 0, done.err
    records = {line["path"]: line for line in journal(media) if line["kind"] == "caption"}
    other = next(record for path, record in records.items() if path != name)
    assert other["prompts"] == ["Describe it.", "Shorten this: Describe it. Said of it.", "Name its colors."]
    assert other["captions"] == [
        "ohwx Shorten this: Describe it. Said of it. Said of it.", "ohwx Name its colors. Said of it.",
    ]  # fmt: skip
    assert captions(media)[f"{Path(other['path']).stem}.txt"] == other["captions"][0]
    assert len(other["raw"]) == len(other["finish_reasons"]) == 3


def test_a_chain_describes_and_then_writes_the_format(media):
    name = min(p.name for p in media.glob("*.png"))
    good, bad = known("flux2", "good"), known("flux2", "hopeless")
    engine = Recorder(replies={name: ["A baker {opens} a shop.", bad["answer"], good["answer"]]})
    prompts = ("Describe it.", "Write this as JSON: {previous}")
    [outcome] = caption(media, engine=engine, format="flux2", include=[name], prompt=prompts, begin="")
    assert outcome.caption == good["caption"]
    first, second, third = engine.requests
    assert (first.prompt, first.schema) == ("Describe it.", None)
    assert second.prompt.startswith("Write this as JSON: A baker {opens} a shop.\n\nAnswer with one JSON object")
    assert third.prompt.startswith(second.prompt) and "'scene' is a required property" in third.prompt
    [record] = [line for line in journal(media) if line["kind"] == "caption"]
    assert record["raw"] == ["A baker {opens} a shop.", good["answer"]] and record["rejected"] == [bad["answer"]]


def test_an_intermediate_answer_is_judged_but_structure_in_it_is_not_prose(media):
    names = sorted(p.name for p in media.glob("*.png"))[:2]
    as_json = known("ideogram4", "good", 9)["answer"]
    engine = Recorder(
        replies={names[0]: ["I'm sorry, I can't help.", as_json, "A street."], names[1]: "I cannot see it."}
    )
    found = {
        o.item.name: o
        for o in caption(media, engine=engine, include=names, prompt=("Describe.", "Use {previous}"), retries=1)
    }
    assert found[names[0]].caption == "A street." and "refused" in found[names[1]].error
    assert [r.prompt for r in engine.requests if r.item.name == names[0]][-1] == f"Use {as_json}"


def test_a_caption_may_repeat_the_answer_that_its_prompt_continues(media):
    name = min(p.name for p in media.glob("*.png"))
    said = "A man in an oil painting in the style of Rembrandt reads a long text."
    engine = Recorder(replies={name: [f"{said} He sits.", said]})
    [outcome] = caption(
        media, engine=engine, include=[name], prompt=("Describe it.", "Describe this in brief: {previous}")
    )
    assert isinstance(outcome, Captioned) and outcome.caption == said and len(engine.requests) == 2


def test_the_demo_model_follows_a_chain(media):
    name = min(p.name for p in media.glob("*.png"))
    prompts = ("Describe this.", "Say it again: {previous}")
    [outcome] = caption(media, model="demo", include=[name], prompt=prompts)
    assert isinstance(outcome, Captioned) and outcome.caption.endswith("background.")
    [record] = [line for line in journal(media) if line["kind"] == "caption"]
    assert record["prompts"] == [prompts[0], f"Say it again: {record['raw'][0]}"]


def test_a_dry_run_counts_the_answer_that_a_prompt_continues(command, media, script):
    def tokens(*prompts: str) -> int:
        given = [word for prompt in prompts for word in ("--prompt", prompt)]
        engine = ("--engine", "scripted", "--model", script(), "--max-new-tokens", 100)
        return command("caption", media, *engine, *given, "--dry-run", "--json").json["prompt_tokens"]

    assert tokens("One two", "Shorten {previous}") == tokens("One two", "Shorten this") + 8 * 100


@pytest.mark.parametrize(("flags", "says"), [
    (["--prompt", "Shorten {previous}"], "{previous} in the first prompt"),
    (["--prefix", "{previous} "], "{previous} in --prefix or --suffix"),
    (["--prompt", "a", "--prompt", "{previous}", "--examples", "e.txt"], "--examples and {previous}"),
    (["--format", "yaml"], "--format yaml: give one of prose, tags, ideogram4"),
    (["--format", "nowhere.json"], "--format nowhere.json cannot be read"),
])  # fmt: skip
def test_what_cannot_be_meant_is_told(command, media, flags, says):
    done = command("caption", media, *flags)
    assert done.code == 2 and says in done.err, done.err


# Servers


def test_a_server_gets_the_schema_and_one_that_refuses_it_is_asked_once():
    def rule(asked: HttpRequest) -> HttpResponse:
        if "response_format" in asked.json:
            text = "The provided JSON schema contains features not supported by xgrammar."
            return HttpResponse(400, {"error": {"message": text}})
        return HttpResponse(body=completion("{}"))

    schema = format_spec("flux2").json_schema
    told: list[str] = []
    for answer in (lambda asked: HttpResponse(body=completion("{}")), rule):
        with StubServer(answer) as stub:
            with session(stub.url, told.append, concurrency=1) as opened:
                got = answers(opened, [request(n, schema=schema) for n in range(4)])
            assert all(isinstance(one, Reply) for one in got.values())
            sent = [asked.json.get("response_format") for asked in stub.asked]
        form = {"type": "json_schema", "json_schema": {"name": "caption", "schema": schema}}
        assert sent == ([form] * 4 if answer is not rule else [form, None, None, None, None])
    assert len(told) == 1 and "`response_format`" in told[0]


# check and export


def inspected(text: str, format: str | None = None, **settings: Any) -> dict[str, str]:
    named = shipped(format) if format else None
    return dict(inspect_caption(text.encode(), CheckSettings.from_dict(settings), caption_format=named).findings)


def test_check_finds_what_format_a_caption_has_and_what_is_wrong_with_it():
    for answer in ANSWERS:
        if answer["format"] != "tags" and answer["outcome"] == "good":
            found = inspect_caption(
                answer["caption"].encode(), CheckSettings(language=answer.get("language", "english"))
            )
            assert found.format == answer["format"] and not found.findings, found.findings
        if answer["format"] == "ideogram4" and answer["outcome"] == "hopeless" and answer["answer"].startswith("{"):
            found = inspect_caption(answer["answer"].encode(), CheckSettings())
            assert {code for code, _ in found.findings} & {"invalid_format", "repetition"} and found.fixed_bytes is None
    good = known("ideogram4", "good")["caption"]
    assert "text outside" in inspected(f"ohwx, {good}")["invalid_format"]
    assert "expected one JSON object" in inspected("A cat on a mat.", format="ideogram4")["invalid_format"]
    assert inspected("1girl, solo, scarf", format="tags") == {}
    assert detect("A cat {sits}. {red|blue} hat").name == detect('The sign says {"a" and "b"}').name == "prose"
    assert all(detect(f'{{"a": {value}}}').name == "json" for value in ("1", "-0.5", "true", "null", '"b"', "[]"))


def test_fix_writes_the_format_again_and_nothing_else(command, media):
    name, h3 = sorted(p.stem for p in media.glob("*.png"))[:2]
    key_order, pretty = known("ideogram4", "repairable", 4), known("minimax-h3", "good", 3)["caption"]
    (media / f"{name}.txt").write_text(key_order["answer"], encoding="utf-8")
    (media / f"{h3}.txt").write_text(pretty.replace("\n\n", "\n"), encoding="utf-8")
    done = command("check", media, "--fix", "--json")
    assert Counter(fixed["code"] for fixed in done.json["fixed"]) == {"format_style": 2}
    assert done.json["formats"] == {"ideogram4": 1, "minimax-h3": 1}
    assert captions(media) == {f"{name}.txt": key_order["caption"], f"{h3}.txt": pretty}
    done = command("check", media)
    assert "Caption formats: 1 ideogram4, 1 minimax-h3" in done.out


@pytest.mark.parametrize("trainer", ["onetrainer", "simpletuner", "sd-scripts"])
def test_a_trainer_that_reads_lines_would_destroy_lines(trainer):
    h3, one_line = known("minimax-h3", "good")["caption"], known("ideogram4", "good")["caption"]
    pretty = json.dumps(json.loads(one_line), indent=2)
    for text in (h3, pretty):
        found = inspected(text, for_=trainer)
        assert "structure_lost" in found and "first_line_only" not in found
    assert "structure_lost" not in inspected(one_line, for_=trainer)
    assert not inspected(h3, for_="musubi") and not inspected(one_line, for_="ai-toolkit")


def test_export_keeps_structure(command, media, tmp_path):
    names = sorted(p.stem for p in media.glob("*.png"))[:2]
    texts = [known("minimax-h3", "good")["caption"], known("ideogram4", "good")["caption"]]
    for name, text in zip(names, texts, strict=True):
        (media / f"{name}.txt").write_text(text, encoding="utf-8")
    assert command("export", media, "--for", "diffusion-pipe").code == 0
    written = json.loads((media / "captions.json").read_text())
    assert [written[f"{name}.png"] for name in names] == [[text] for text in texts]
    for trainer in ("onetrainer", "sd-scripts"):
        done = command("export", media, "--for", trainer, "--output", tmp_path / trainer)
        assert done.code == 1 and "has several lines" in done.err
    (media / f"{names[0]}.txt").unlink()
    assert command("export", media, "--for", "onetrainer", "--output", tmp_path / "linked").code == 0
    assert (tmp_path / "linked" / f"{names[1]}.txt").read_text(encoding="utf-8") == texts[1]


@pytest.mark.parametrize("answer", ['{"a":' + "9" * 5000 + "}", '{"a":' * 100_000])
def test_a_json_bomb_is_an_answer_that_does_not_fit(answer):
    with pytest.raises(FormatError, match=r"too long|too deeply"):
        parse_object(answer)


def test_a_caption_of_brackets_is_no_json():
    assert _not_json("[" * 60_000) is not None
