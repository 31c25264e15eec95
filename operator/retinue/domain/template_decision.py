"""AssistantTemplate: can assistants use it?"""

from datetime import datetime

from retinue.domain.conditions import Problem, merge, ready
from retinue.domain.plan import Plan
from retinue.domain.template import validate_template
from retinue.domain.transitions import events_of
from retinue.domain.violation import summary
from retinue.resources.reasons import TEMPLATE_INVALID, TEMPLATE_VALID
from retinue.resources.v1alpha1.assistanttemplate import AssistantTemplate, AssistantTemplateStatus


def decide_template(template: AssistantTemplate, now: datetime) -> Plan:
    """The plan for one template: a status that says what is wrong with it, if anything."""
    if template.deleting:
        return Plan()
    wrong = validate_template(template.spec)
    count = len(template.spec.variables)
    findings = (
        Problem(TEMPLATE_INVALID, summary(wrong)).findings()
        if wrong
        else ready(TEMPLATE_VALID, f"{count} variable{'' if count == 1 else 's'}")
    )
    generation = template.metadata.generation
    status = AssistantTemplateStatus(
        observed_generation=generation,
        conditions=merge(template.status.conditions, findings, generation, now),
    )
    return Plan(status=status.to_object(), events=events_of(template.status.conditions, findings))
