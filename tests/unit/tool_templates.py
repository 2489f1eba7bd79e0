"""Short chat templates that write calls as the big families do, over the byte tokenizer's control tokens."""

_TALK = (
    "{% for m in messages %}{{ '<|' + ('user' if m['role'] == 'tool' else m['role']) + '|>' }}"
    "{{ m['content'] }}CALLS{{ '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_TOOLS = (
    "{% if tools %}{{ '<|system|>' }}{% for t in tools %}{{ t | tojson }}{% endfor %}"
    "{{ '<|end|>' }}{% endif %}"
)
_EACH = "{% for c in m['tool_calls'] or [] %}WRITE{% endfor %}"

HERMES = _TOOLS + _TALK.replace(
    "CALLS",
    _EACH.replace(
        "WRITE",
        "{{ '<tool_call>\n{\"name\": \"' + c['function']['name'] + '\", \"arguments\": ' }}"
        "{{ c['function']['arguments'] | tojson }}{{ '}\n</tool_call>' }}",
    ),
)
LLAMA3 = _TOOLS + _TALK.replace(
    "CALLS",
    "{% if m['tool_calls'] and m['tool_calls'] | length != 1 %}{{ raise_exception('one') }}{% endif %}"
    + _EACH.replace(
        "WRITE",
        "{{ '{\"name\": \"' + c['function']['name'] + '\", ' }}{{ '\"parameters\": ' }}"
        "{{ c['function']['arguments'] | tojson }}{{ '}' }}",
    ),
)
#: Compares messages and insists on ids of nine characters, as the originals do.
MISTRAL = "{% set last = messages | selectattr('role', 'equalto', 'user') | list %}" + _TALK.replace(
    "{{ m['content'] }}CALLS",
    "{% if tools and m == last[-1] %}{{ '[AVAILABLE_TOOLS]' }}{% for t in tools %}"
    "{% for k, v in t['function'].items() %}{{ k + ': ' + (v if v is string else v | tojson) }}{% endfor %}"
    "{% endfor %}{% endif %}{{ m['content'] }}"
    "{% if m['tool_calls'] %}{{ '[TOOL_CALLS] [' }}{% for c in m['tool_calls'] %}"
    "{% if c['id'] | length != 9 %}{{ raise_exception('nine') }}{% endif %}"
    "{{ (c['function'] | tojson)[:-1] + ', \"id\": \"' + c['id'] + '\"}' }}"
    "{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{{ ']' }}{% endif %}"
    "{% if m['tool_call_id'] and m['tool_call_id'] | length != 9 %}{{ raise_exception('nine') }}{% endif %}",
)
MISTRAL_ARGS = _TOOLS + _TALK.replace(
    "CALLS",
    _EACH.replace(
        "WRITE",
        "{{ '[TOOL_CALLS]' + c['function']['name'] + '[ARGS]' }}{{ c['function']['arguments'] | tojson }}",
    ),
)
BARE_JSON = _TOOLS + _TALK.replace(
    "CALLS",
    _EACH.replace(
        "WRITE",
        "{{ '{\"name\": \"' + c['function']['name'] + '\", \"arguments\": ' }}"
        "{{ c['function']['arguments'] | tojson }}{{ '}' }}",
    ),
)
KNOWN = {
    "hermes": HERMES,
    "llama3": LLAMA3,
    "mistral": MISTRAL,
    "mistral_args": MISTRAL_ARGS,
    "json": BARE_JSON,
}


def tool(name="get_weather", properties=None, description="Weather of a city.", **function):
    """A tool in OpenAI's shape."""
    properties = {"city": {"type": "string"}} if properties is None else properties
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    function = {"name": name, "description": description, "parameters": parameters, **function}
    return {"type": "function", "function": function}
