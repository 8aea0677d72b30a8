//! Every function with what it yields.

use std::collections::BTreeMap;

use super::names;
use crate::bake::definitions::Definitions;
use crate::bake::source::Source;
use crate::bake::world::World;

/// The value of an expression, as JSON; or the fault.
fn eval(expression: &str) -> String {
    let mut definitions = Definitions::default();
    let source = Source::new("x.hcl", &format!("x = {expression}\n"));
    if let Err(fault) = definitions.add_hcl(&source) {
        return format!("fault: {fault}");
    }
    let environment = |_: &str| None;
    let world = World::new(&definitions, &environment, BTreeMap::new());
    world.variable("x").map_or_else(|fault| format!("fault: {fault}"), |value| value.to_json().to_string())
}

const TABLE: &[(&str, &str)] = &[
    ("absolute(-2)", "2"),
    ("add(1, \"2\")", "3"),
    ("and(true, false)", "false"),
    ("base64decode(\"aGk=\")", "\"hi\""),
    ("base64encode(\"hello\")", "\"aGVsbG8=\""),
    ("basename(\"/a/b.txt\")", "\"b.txt\""),
    ("strlen(homedir()) > 0", "true"),
    ("bytesslice(\"abcd\", 1, 2)", "\"bc\""),
    ("semvercmp(\"1.4.2\", \"^1.2\")", "true"),
    (
        "rfc3339parse(\"2027-01-01T01:02:03+01:00\")",
        "{\"day\":1,\"hour\":1,\"iso_week\":53,\"iso_year\":2026,\"minute\":2,\"month\":1,\"month_name\":\"January\",\"second\":3,\"unix\":1798761723,\"weekday\":5,\"weekday_name\":\"Friday\",\"year\":2027,\"year_day\":1}",
    ),
    (
        "[for key in [\"rfc3339\", \"iso_week\", \"year_day\"] : unixtimestampparse(1700000000)[key]]",
        "[\"2023-11-14T22:13:20Z\",46,318]",
    ),
    ("byteslen(\"ä\")", "2"),
    ("can(nothing)", "false"),
    ("ceil(1.2)", "2"),
    ("chomp(\"a\\n\\n\")", "\"a\""),
    ("chunklist([1, 2, 3], 2)", "[[1,2],[3]]"),
    ("cidrhost(\"10.1.0.0/16\", 5)", "\"10.1.0.5\""),
    ("cidrnetmask(\"10.1.0.0/12\")", "\"255.240.0.0\""),
    ("cidrsubnet(\"10.1.0.0/16\", 8, 2)", "\"10.1.2.0/24\""),
    ("cidrsubnets(\"10.1.0.0/16\", 4, 8)", "[\"10.1.0.0/20\",\"10.1.16.0/24\"]"),
    ("coalesce(null, \"\", \"b\")", "\"\""),
    ("coalescelist([], [1])", "[1]"),
    ("compact([\"a\", \"\", null])", "[\"a\"]"),
    ("concat([1], [2, 3])", "[1,2,3]"),
    ("contains([\"a\"], \"a\")", "true"),
    ("convert(\"1\", number)", "1"),
    ("csvdecode(\"a,b\\n1,2\\n\")", "[{\"a\":\"1\",\"b\":\"2\"}]"),
    ("dirname(\"/a/b/c\")", "\"/a/b\""),
    ("distinct([1, 1, 2])", "[1,2]"),
    ("divide(7, 2)", "3.5"),
    ("element([1, 2, 3], 4)", "2"),
    ("equal(1, 1)", "true"),
    ("flatten([[1, [2]], [3]])", "[1,2,3]"),
    ("floor(1.9)", "1"),
    (
        "format(\"%s-%03d-%v-%5.2f|%-4s|%q\", \"a\", 7, true, 3.14159, \"x\", \"y\")",
        "\"a-007-true- 3.14|x   |\\\"y\\\"\"",
    ),
    (
        "formatdate(\"YYYY-MM-DD'T'hh:mm:ssZ EEE, MMM D H aa\", \"2024-02-29T13:04:05Z\")",
        "\"2024-02-29T13:04:05Z Thu, Feb 29 1 pm\"",
    ),
    ("formatlist(\"%s:%s\", \"app\", [\"a\", \"b\"])", "[\"app:a\",\"app:b\"]"),
    ("greaterthan(2, 1)", "true"),
    ("greaterthanorequalto(1, 1)", "true"),
    ("hasindex([1], 1)", "false"),
    ("indent(2, \"a\\nb\")", "\"a\\n  b\""),
    ("index([\"a\", \"b\"], 1)", "\"b\""),
    ("indexof([\"a\", \"b\"], \"b\")", "1"),
    ("int(1.9)", "1"),
    ("join(\",\", [\"a\", \"b\"], [1])", "\"a,b,1\""),
    ("jsondecode(\"{\\\"a\\\": [1]}\")", "{\"a\":[1]}"),
    ("jsonencode({ a = [1, true] })", "\"{\\\"a\\\":[1,true]}\""),
    ("keys({ b = 1, a = 2 })", "[\"a\",\"b\"]"),
    ("length([1, 2])", "2"),
    ("lessthan(2, 1)", "false"),
    ("lessthanorequalto(1, 1)", "true"),
    ("log(8, 2)", "3"),
    ("lookup({ a = 1 }, \"b\", 2)", "2"),
    ("lower(\"Ab\")", "\"ab\""),
    ("max(1, 3, 2)", "3"),
    ("md5(\"a\")", "\"0cc175b9c0f1b6a831c399e269772661\""),
    ("merge({ a = 1, b = 1 }, { b = 2 })", "{\"a\":1,\"b\":2}"),
    ("min([3, 1]...)", "1"),
    ("modulo(7, 4)", "3"),
    ("multiply(2, 3)", "6"),
    ("negate(2)", "-2"),
    ("not(true)", "false"),
    ("notequal(1, 2)", "true"),
    ("or(false, true)", "true"),
    ("parseint(\"ff\", 16)", "255"),
    ("pow(2, 10)", "1024"),
    ("range(1, 4)", "[1,2,3]"),
    ("regex(\"v(\\\\d+)\\\\.(\\\\d+)\", \"v1.2\")", "[\"1\",\"2\"]"),
    ("regex(\"(?P<major>\\\\d+)\", \"v1.2\")", "{\"major\":\"1\"}"),
    ("regex_replace(\"v1.2\", \"^v(.*)$\", \"$1\")", "\"1.2\""),
    ("regexall(\"\\\\d\", \"a1b2\")", "[\"1\",\"2\"]"),
    ("replace(\"a/b/c\", \"/\", \"-\")", "\"a-b-c\""),
    ("reverse(\"abc\")", "\"cba\""),
    ("reverselist([1, 2])", "[2,1]"),
    ("sanitize(\"1.2/x\")", "\"1_2_x\""),
    ("sethaselement([1], 1)", "true"),
    ("setintersection([1, 2], [2, 3])", "[2]"),
    ("setproduct([1, 2], [\"a\"])", "[[1,\"a\"],[2,\"a\"]]"),
    ("setsubtract([\"b\", \"a\"], [\"b\"])", "[\"a\"]"),
    ("setsymmetricdifference([1, 2], [2, 3])", "[1,3]"),
    ("setunion([\"b\"], [\"a\", \"b\"])", "[\"a\",\"b\"]"),
    ("sha1(\"a\")", "\"86f7e437faa5a7fce15d1ddcb9eaeaea377667b8\""),
    ("sha256(\"\")", "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\""),
    ("substr(sha512(\"\"), 0, 8)", "\"cf83e135\""),
    ("signum(-3)", "-1"),
    ("slice([1, 2, 3], 1, 3)", "[2,3]"),
    ("sort([\"b\", \"a\"])", "[\"a\",\"b\"]"),
    ("split(\",\", \"a,b\")", "[\"a\",\"b\"]"),
    ("strlen(\"äb\")", "2"),
    ("substr(\"hello\", -3, -1)", "\"llo\""),
    ("subtract(3, 1)", "2"),
    ("timeadd(\"2024-02-28T23:30:00Z\", \"1h\")", "\"2024-02-29T00:30:00Z\""),
    ("strlen(timestamp())", "20"),
    ("title(\"hello world\")", "\"Hello World\""),
    ("trim(\"xxaxx\", \"x\")", "\"a\""),
    ("trimprefix(\"v1\", \"v\")", "\"1\""),
    ("trimspace(\" a \")", "\"a\""),
    ("trimsuffix(\"a.go\", \".go\")", "\"a\""),
    ("try(nothing, \"b\")", "\"b\""),
    ("upper(\"ab\")", "\"AB\""),
    ("urlencode(\"a b&ä\")", "\"a+b%26%C3%A4\""),
    ("strlen(uuidv4())", "36"),
    ("uuidv5(\"dns\", \"www.example.com\")", "\"2ed6657d-e927-568b-95e1-2665a8aea6a2\""),
    ("values({ b = 1, a = 2 })", "[2,1]"),
    ("zipmap([\"a\"], [1])", "{\"a\":1}"),
];

#[test]
fn functions_yield_what_go_cty_yields() {
    for (expression, expected) in TABLE {
        assert_eq!(eval(expression), *expected, "{expression}");
    }
}

#[test]
fn every_function_is_in_the_table() {
    for name in names() {
        let call = format!("{name}(");
        assert!(TABLE.iter().any(|(expression, _)| expression.contains(&call)), "{name} is not tested");
    }
}

#[test]
fn expressions_follow_hcl() {
    let table = [
        ("1 + 2 * 3", "7"),
        ("-(1 - 3) % 2", "0"),
        ("1 == \"1\"", "false"),
        ("\"a\" != \"b\" && !false", "true"),
        ("true ? \"a\" : nothing", "\"a\""),
        ("[for x in [1, 2, 3] : x * 2 if x > 1]", "[4,6]"),
        ("{for k, v in { a = 1 } : upper(k) => v}", "{\"A\":1}"),
        ("{for x in [\"a\", \"ab\", \"b\"] : substr(x, 0, 1) => x...}", "{\"a\":[\"a\",\"ab\"],\"b\":[\"b\"]}"),
        ("[{ a = 1 }, { a = 2 }][*].a", "[1,2]"),
        ("{ a = { b = [10, 20] } }.a.b[1]", "20"),
        ("{ (\"k\") = 1, \"l\" = 2 }", "{\"k\":1,\"l\":2}"),
        ("\"a${1}b${true}\"", "\"a1btrue\""),
        ("\"${[1]}\"", "[1]"),
        ("\"$${x} %%{y} \\n\"", "\"${x} %{y} \\n\""),
        ("\"%{ if true }yes%{ else }no%{ endif }\"", "\"yes\""),
        ("\"%{ for x in [1, 2] }<${x}>%{ endfor }\"", "\"<1><2>\""),
        ("\"a  ${~ 1 ~}  b\"", "\"a1b\""),
        ("<<EOT\none ${1}\n  two\nEOT\n", "\"one 1\\n  two\\n\""),
        ("<<-EOT\n  one\n    two\n  EOT\n", "\"one\\n  two\\n\""),
        ("0.1 + 1", "1.1"),
        ("\"${3.0} ${1000000000000}\"", "\"3 1000000000000\""),
    ];
    for (expression, expected) in table {
        assert_eq!(eval(expression), expected, "{expression}");
    }
}

#[test]
fn faults_have_a_place() {
    let table = [
        ("[1, nothing]", "x.hcl:1:9: the variable \"nothing\" is not defined"),
        ("\"a${null}\"", "x.hcl:1:9: null where a string is needed"),
        ("uper(\"a\")", "x.hcl:1:5: there is no function \"uper\": did you mean upper?"),
        ("1 / 0", "x.hcl:1:5: division by zero"),
        ("regex(\"(\", \"a\")", "x.hcl:1:5: regex(): no pattern"),
        ("{ a = 1 }.b", "x.hcl:1:5: the map has no element \"b\""),
        ("[1", "x.hcl:"),
        ("x", "x.hcl:1:5: variable x needs itself"),
        ("range(1, 1e9)", "x.hcl:1:5: range(): more than"),
        ("format(\"%d\")", "x.hcl:1:5: format(): no argument 1"),
        ("element([], 0)", "x.hcl:1:5: element(): the list is empty"),
    ];
    for (expression, expected) in table {
        let said = eval(expression);
        assert!(said.strip_prefix("fault: ").is_some_and(|said| said.starts_with(expected)), "{expression}: {said}");
    }
}
