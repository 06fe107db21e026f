"""Phrases of refusals, repeated instructions and absent things, one regular expression per line.

`_` matches spaces, and `{NAME}` any entry of the list NAME. Matching ignores case. Callers remove quoted text first.
"""

import re
from collections.abc import Mapping

QUOTED = re.compile(r"\"[^\"]*\"|\u201c[^\u201d]*\u201d|\u00ab[^\u00bb]*\u00bb|(?<!\w)'[^']{2,}'(?!\w)")

LISTS: Mapping[str, str] = {
    "MEDIA": "image video clip picture photo file attachment link",
    "DOES": """
        see view access process open identify describe provide assist help fulfill? create generate caption
        comment answer engage continue comply write make analy[sz]e recogni[sz]e determine confirm discuss
        offer produce speculate give share watch do_that complete respond tell name comfortable the_ability
        the_capability (?:any|an?|the)_(?:image|video)
    """,
    "SELF": """
        am can can't cannot could couldn't will won't would do don't did didn't have haven't must need should
        apologi[sz]e love received lack prefer choose refuse decline rather choosing going afraid unable not
        only gladly leave kept avoided
    """,
    # objects of a refusal; first-person prose has other objects
    "TASK": """
        describ caption image picture photo video clip footage content text words write transcrib speculat comment
        confirm proceed request identif help assist provide answer
    """,
    "THING": """
        people persons? humans? figures? individuals? text words? letter(?:s|ing) writing signs? signage
        logos? watermarks? objects? elements? details? subjects? characters? animals? vehicles? cars?
        buildings? furniture items? movements? motion action activity sounds? audio music dialogue speech
        distractions? backgrounds? scenery landscape faces? decorations? patterns? features? indications?
        evidence props clutter clouds? trees plants shadows? changes? borders? interaction accessories
        jewell?e?ry makeup colou?rs? context light_sources? customers? staff cuts boats? birds?
    """,
    "SEEN": "visible seen shown present depicted included discernible apparent detectable in_(?:view|sight)",
    "SHOW": "contain include show feature depict display change enter appear wearing move",
    # phrases such as "no doubt" and "no larger", which do not deny that a thing is there
    "STATE": """
        expression man's longer doubt more less matter bigger larger smaller taller wider one's hands hurry
        shirt shoes idea clue mercy
    """,
    "TO_3": r"(?:\w+_){0,3}?",
}


def phrases(lines: str) -> re.Pattern[str]:
    """Compile all lines into one pattern.

    # "i_{DOES}" -> matches "I see", "i view", ...
    """
    alternatives = []
    for line in lines.split():
        for name, words in LISTS.items():
            line = line.replace(f"{{{name}}}", words if name == "TO_3" else f"(?:{'|'.join(words.split())})")
        alternatives.append(line.replace("_", " "))
    return re.compile("|".join(alternatives), re.IGNORECASE)


REFUSAL = phrases(r"""
    (?-i:\bI(?:'(?:m|d|ll|ve))?_(?:(?:\w+ly|really|also|would|will|just)_)?{SELF}\b)(?=[^.!?]*\b{TASK})
    \bi'?_?a?m_(?:really_|very_|so_|deeply_)?(?:sorry|unable|not_able|not_allowed|programmed|just_an?)
    \bi'?_?a?m_(?:only_)?an?_(?:ai|large_language|language|text)
    \bi_(?:can_?not|can't|could_not|couldn't|won't|will_not|do_not|don't|am_not_able_to)_(?:\w+ly_)?(?:to_|have_)?{DOES}
    \b(?:as|being)_an?_(?:\w+[-_]){0,2}?(?:ai|artificial_intelligence|large_language|language_model|multimodal)\b
    \A(?:i'm_|i_am_)?sorry[,.]
    \bsorry,?_(?:but_)?(?:i|this|that)\b
    \bi_(?:must_|have_to_|would_like_to_|want_to_)?apologi[sz]e\b
    \bmy_apologies\b
    \brequest_(?:declined|denied|refused)\b
    \b(?:will|can)_not_be_(?:generated|provided)\b
    \bcan't_be_described\b
    \b(?:inappropriate|unethical|not_(?:appropriate|ethical|comfortable)|impossible_for_me)_(?:for_me_)?to\b
    \bwould_be_(?:inappropriate|unethical|irresponsible|harmful)\b
    \b(?:beyond|outside|due_to|within)_(?:of_)?my_(?:\w+_)?(?:capabilit|limitation|abilit|scope|guideline)
    \bmy_(?:capabilities|programming|training|guidelines|purpose)\b
    \b{MEDIA}_(?:didn't|did_not|failed_to|won't|doesn't|does_not)_(?:load|open|come_through|upload)
    \bno_{MEDIA}s?_(?:(?:was|were|has_been|is)_)?(?:provided|attached|uploaded|included|given|received|available)
    \b{MEDIA}s?_(?:was|were|is|are|has|have)_not_(?:been_)?(?:provided|attached|uploaded|included|loaded|available|accessible)
    \bthe_{MEDIA}s?_(?:is|seems?_to_be|appears?_to_be)_(?:blank|unavailable|corrupt|missing\W|empty\W)
    \b(?:could|can|would)_you_(?:please_)?(?:upload|share|send|provide|describe|attach|try)\b
    \bsend_(?:me_the|(?:the|your)_{MEDIA})\b
    \bplease_(?:provide|upload|share|attach|send|re-?upload|try_again)\b
    \bi(?:'d|_would)_(?:need|require|be_happy_to|be_glad_to)\b
    \bif_you_(?:can_|could_)?(?:provide|upload|share|describe)\b
    \b(?:can_?not|can't|unable_to|not_able_to)_(?:fulfil+|comply_with|assist_with|help_with|complete|provide|generate|process)
    \b(?:can_?not|can't|unable_to|not_able_to)_identify_(?:the_|this_|any_|real_)?(?:person|people|individual)
    \b(?:against|violates?|not_in_line_with)_(?:my|our|the)_(?:\w+_)?(?:guidelines|polic|programming|principles|content)
    \b(?:against|violates?|because_of|due_to|under|with|per)_(?:\w+_)?(?:content|safety|usage)_(?:policy|policies|guidelines)\b
    \bit_is_(?:not_|im)possible_to_(?:describe|caption|see|view|analy[sz]e)_(?:the|this)_{MEDIA}\b
    \A{MEDIA}_not_found\b
    \b(?:you_have_not|you_haven't|you_did_not|you_didn't)_(?:\w+ly_)?(?:upload|attach|provide|share|include|send|sent)
    (?-i:\A\[?(?:Error|ERROR)\]?:_)
    \(note:_(?:i|this|the)\b
    \bnote:_(?:i_have|this_(?:description|caption|is))\b
    \bdisclaimer:
    \bif_you_or_someone_you_know\b
    \bplease_reach_out\b
    \bcrisis_(?:line|hotline)\b
    \bplease_consult\b
""")

# Instructions for a caption instead of a caption.
META_INSTRUCTIONS = phrases(r"""
    (?:\A|(?<=[.:;!?(])\s*)(?:do_not|don't|never|always|avoid)_(?:mention|includ|describ|us(?:e|ing)_|speculat|add|nam|refer)
    (?:\A|(?<=[.:;!?(])\s*)(?:do_not|don't|never|always|avoid)_(?:start|begin|writ|say|guess|assum|identif|repeat|comment)
    \A(?:you(?:_are|'re)_(?:an?|the)|your_task|acting_as)\b
    (?:\A|(?<=[.:;!?(])\s*)without_(?:beginning|starting|saying|mentioning|using)\b
    \b(?:max(?:imum)?|under|at_most|no_more_than|fewer_than|in)_(?:of_)?\d+_(?:words|sentences)\b
    \bno_(?:line_breaks|markdown|introductory_phrases|brand_names|preamble|bullet_points)\b
    \b(?:mentions?|starts?_with|uses?)\b[^.]{0,60}:_yes\b
    \b(?:the|this|my|your|a)_(?:\w+_)?(?:description|prompt)_(?:uses|avoids|should|will|must|focuses|mentions|that_you|below)\b
    \b(?:the|this|my|your|a)_(?:\w+_)?(?:description|prompt)_(?:describes|is_written|starts|begins)\b
    \byour_captions?\b
    \b(?:the|this|my|your)_caption_(?:avoids|should|will|must|focuses|mentions|is_written)\b
    \bi_(?:will_)?(?:mention|describe|focus_on|caption|write)\b
    \Ahere(?:'s|_is|_are)_(?:an?_)?[^:]{0,80}?\b(?:captions?|descriptions?|tags)\b
    \A(?:user|system|prompt|instructions?)\s*:\s
    \A(?:\w+,_)?(?:we|i)_(?:need|have|are_asked)_to_(?:produce|write|generate|create|describe|caption|provide|output)\b
    \bthe_user_(?:asked|asks|requested|wants_(?:me|a|an)|is_asking)\b
    \A\W*(?:insert|add|write|put)_(?:\w+_){0,3}(?:caption|description|text)_here\b
    \A\W*insert_(?:\w+_){0,3}(?:caption|description)\b
    \A\W*(?:your|the)_(?:caption|description)_(?:goes_)?here\b
    \b(?:should_i|shall_i|let's|let_us)_(?:describe|caption|write)\b
    \Asummary_of_what_(?:is_|can_be_)?(?:seen|visible|shown|depicted|happens|you_see|the_(?:image|video))\b
    \[(?:trigger|subject|place|action|style|lighting)\]
    \A\W*the_rules:
    \bmotion_described_using\b
""")

ABSENCE = phrases(r"""
    (?-i:\b[Nn]o(?=\s+[a-z]))\s+(?!{STATE}\b)
    \bno_\w+_or_\w+\b
    \bzero_[a-z]+\b
    \bnot_a_single\b
    \b(?:there|this|it|he|she|they)_(?:is|are|was|were|'s|appears?_to_be|seems?_to_be)_(?:no|not_any|not_a)\b(?!_doubt)
    \bthere_(?:isn't|aren't|wasn't|weren't)\b
    \bneither_(?:\w+_){1,4}nor\b
    ,_and_neither_(?:is|are)\b
    \bnor_(?:is|are|any)\b
    \bwithout_(?:any_(?:\w+_)?|an?_|other_|visible_|{TO_3})?{THING}\b
    \bwithout_any\b
    \b(?:free|empty|bare)_of_(?:any\b|{TO_3}{THING}\b)
    \b(?:de)?void_of\b
    \b(?:lack|lacks|lacking)_(?:of_)?(?:any_|visible_)?{TO_3}{THING}\b
    \b(?:absence|absent)\b
    \b(?:does_not|do_not|did_not|doesn't|don't|didn't|is_not|are_not|isn't|aren't|not)_(?:\w+ly_)?(?:{SHOW}\b|{SEEN})
    \b(?:cannot|can't)_be_(?:\w+ly_)?{SEEN}
    \b(?:contains?|shows?|includes?|features?|wears?|has|have)_(?:no(?!_{STATE}\b)|nothing)\b
    \bnothing_(?:else|more|\w+_or_\w+|remarkable|(?:is_)?in_the_(?:background|foreground|frame))\b
    \b(?:nobody|no_one|none_of)_(?:else_)?(?:is|are|can_be|the)\b
    \bmissing_from_the_(?:image|scene|frame|video|shot|picture)\b
""")
