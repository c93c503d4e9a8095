"""What `--help` says of the flags of a mapping (see `row_mapping`); imports nothing."""

FIELD_HELP = (
    "with --input or --tfds: fill a field of a row (id, input, label, choices) from fields of the "
    "file or features of the dataset; TEMPLATE is the name of one, or a text with {name} "
    'placeholders; repeatable, e.g. --field input="premise: {premise} hypothesis: {hypothesis}" '
    "--field label=label"
)
LABEL_NAMES_HELP = (
    "names for numeric or boolean labels: 'no,yes' for 0 and 1 (false and true), '3=no,7=yes' for "
    "3 and 7; or the word 'choices' if the label is the number (from 0) or letter of one of the "
    "row's choices"
)
