//! Texts for the tests of the estimate of tokens.

/// Texts with their number of tokens in `o200k_base`.
pub(super) const CORPUS: &[(&str, u64)] = &[
    (
        "The harbour was quiet when Mara came down the steps that morning. A single boat lay at the end of the pier, its sails folded like the wings of a sleeping bird, and beyond it the water stretched away, flat and grey, until it met the sky. She had not slept well. Twice in the night she had woken and listened to the rain on the roof, and both times she had thought of her brother, who had gone out three days earlier and had promised to be back before the weather turned. Now the weather had turned, and there was no sign of him. An old man sat mending nets beside the fish market, and she asked him whether he had heard anything. He shook his head slowly. \"They'll have put in at the islands,\" he said. \"Nobody with any sense would try the crossing in this.\"",
        171,
    ),
    (
        "Der Hafen war still, als Mara an diesem Morgen die Stufen hinunterkam. Ein einziges Boot lag am Ende des Stegs, die Segel zusammengefaltet wie die Flügel eines schlafenden Vogels, und dahinter erstreckte sich das Wasser, flach und grau, bis es den Himmel berührte. Sie hatte nicht gut geschlafen. Zweimal war sie in der Nacht aufgewacht und hatte dem Regen auf dem Dach zugehört, und beide Male hatte sie an ihren Bruder gedacht, der vor drei Tagen hinausgefahren war.",
        115,
    ),
    (
        "Гавань была тихой, когда Мара спустилась по ступеням тем утром. Одинокая лодка стояла в конце причала, её паруса были сложены, как крылья спящей птицы, а за ней простиралась вода, плоская и серая, пока не встречалась с небом. Она плохо спала. Дважды за ночь она просыпалась и слушала дождь на крыше.",
        96,
    ),
    (
        "那天早晨,玛拉走下台阶时,港口一片寂静。码头尽头停着一艘小船,帆像熟睡的鸟儿的翅膀一样折叠着,远处的水面平坦而灰暗,一直延伸到天际。她没有睡好。夜里她醒来两次,听着屋顶上的雨声,两次都想起了她的哥哥,他三天前出海,答应在天气变坏之前回来。",
        117,
    ),
    (
        "その朝、マーラが階段を降りてきたとき、港は静かだった。桟橋の端に一隻の船が停まっていて、帆は眠っている鳥の翼のように畳まれていた。その向こうには水が平らに灰色に広がり、空と出会うところまで続いていた。彼女はよく眠れなかった。",
        94,
    ),
    (
        "## How to reset your password\n\n1. Open **Settings** and choose *Security*.\n2. Click \"Reset password\". You will get an e-mail with a link that is valid for 30 minutes.\n3. Choose a new password with at least 12 characters, one digit and one symbol.\n\n| Plan | Price | Seats |\n|------|-------|-------|\n| Free | $0 | 1 |\n| Team | $12.50 | 5 |\n\nIf the link has expired, request another one: `POST /v1/password/reset` with `{\"email\": \"ann@example.com\"}`.",
        126,
    ),
    (
        "{\"city\":\"Reykjavík\",\"country\":\"IS\",\"units\":\"metric\",\"days\":5,\"include\":[\"temperature\",\"wind_speed\",\"precipitation\"],\"from\":\"2026-11-30T08:00:00Z\",\"filters\":{\"min_confidence\":0.85,\"sources\":[\"ecmwf\",\"gfs\"]}}",
        68,
    ),
    (
        "/// The sum of two usages, class by class.\npub fn plus(&self, other: &Self) -> Self {\n    let (mut sum, more) = (self.classes(), other.classes());\n    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(more));\n    Self::of(sum, self.reasoning.saturating_add(other.reasoning))\n}",
        87,
    ),
    (
        "def read_lines(path, limit=1000):\n    \"\"\"Return the first lines of a file, without their line ends.\"\"\"\n    lines = []\n    with open(path, encoding=\"utf-8\") as source:\n        for number, line in enumerate(source):\n            if number >= limit:\n                break\n            lines.append(line.rstrip(\"\\n\"))\n    return lines",
        72,
    ),
];
