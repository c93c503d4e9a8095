"""What `--help` says of the flags of a mapping (see `row_mapping`); imports nothing."""

FIELD_HELP = (
    "with --input or --tfds: fill a field of a row (id, input, label, choices) from fields of the "
    "file or features of the dataset; TEMPLATE is the name of one, or a text with {name} "
    'placeholders; repeatable, e.g. --field input="premise: {premise} hypothesis: {hypothesis}" '
    "--field label=label"
)
LABEL_NAMES_HELP = (
    "names of labels that are numbers or truth values: no,yes names 0 and 1, and 3=no,7=yes names "
    "3 and 7; choices: the label is the number (from 0) or letter of one of the choices of the row"
)
