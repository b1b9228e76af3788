//! The vocabulary of the invented catalogue. All names are made up.

/// A word in both languages of the catalogue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    pub(super) en: &'static str,
    pub(super) ja: &'static str,
}

const fn w(en: &'static str, ja: &'static str) -> Word {
    Word { en, ja }
}

/// A genre: its name, topics of its videos, and their typical length.
#[derive(Debug)]
pub(super) struct Genre {
    pub(super) name: Word,
    pub(super) topics: [Word; TOPICS],
    pub(super) typical_minutes: f32,
}

/// Number of topics per genre.
pub(super) const TOPICS: usize = 8;

const fn genre(name: Word, typical_minutes: f32, topics: [Word; TOPICS]) -> Genre {
    Genre {
        name,
        topics,
        typical_minutes,
    }
}

pub(super) const GENRES: [Genre; 12] = [
    genre(
        w("travel", "旅"),
        24.0,
        [
            w("night trains", "夜行列車"),
            w("hot springs", "温泉"),
            w("island hopping", "島めぐり"),
            w("mountain huts", "山小屋"),
            w("old towns", "古い町並み"),
            w("cycling tours", "自転車旅"),
            w("street markets", "市場めぐり"),
            w("ferries", "フェリーの旅"),
        ],
    ),
    genre(
        w("cooking", "料理"),
        14.0,
        [
            w("ramen", "ラーメン"),
            w("bread", "パン作り"),
            w("home curry", "家カレー"),
            w("pickles", "漬物"),
            w("street food", "屋台めし"),
            w("pastry", "焼き菓子"),
            w("vegetables", "野菜料理"),
            w("lunch boxes", "お弁当"),
        ],
    ),
    genre(
        w("music", "音楽"),
        9.0,
        [
            w("jazz piano", "ジャズピアノ"),
            w("city pop", "シティポップ"),
            w("brass band", "吹奏楽"),
            w("folk guitar", "フォークギター"),
            w("choir", "合唱"),
            w("synthesizers", "シンセサイザー"),
            w("shamisen", "三味線"),
            w("strings", "弦楽四重奏"),
        ],
    ),
    genre(
        w("sport", "スポーツ"),
        18.0,
        [
            w("marathon", "マラソン"),
            w("climbing", "クライミング"),
            w("table tennis", "卓球"),
            w("surfing", "サーフィン"),
            w("judo", "柔道"),
            w("figure skating", "フィギュアスケート"),
            w("futsal", "フットサル"),
            w("yoga", "ヨガ"),
        ],
    ),
    genre(
        w("documentary", "ドキュメンタリー"),
        48.0,
        [
            w("fishing villages", "漁村"),
            w("night shift", "夜勤の人々"),
            w("last workshops", "最後の工房"),
            w("rivers", "川と暮らし"),
            w("small schools", "小さな学校"),
            w("lighthouses", "灯台"),
            w("harvest", "収穫の季節"),
            w("railway staff", "駅員の一日"),
        ],
    ),
    genre(
        w("comedy", "お笑い"),
        11.0,
        [
            w("sketches", "コント"),
            w("stand-up", "漫談"),
            w("rakugo", "落語"),
            w("office humour", "職場あるある"),
            w("improvisation", "即興劇"),
            w("puns", "ダジャレ"),
            w("family stories", "家族あるある"),
            w("pranks on props", "小道具いたずら"),
        ],
    ),
    genre(
        w("animation", "アニメーション"),
        12.0,
        [
            w("clay figures", "クレイアニメ"),
            w("paper cutouts", "切り絵アニメ"),
            w("robots", "ロボット"),
            w("fairy tales", "おとぎ話"),
            w("space crew", "宇宙の仲間"),
            w("talking animals", "しゃべる動物"),
            w("school club", "部活もの"),
            w("silent shorts", "無声短編"),
        ],
    ),
    genre(
        w("nature", "自然"),
        30.0,
        [
            w("birds", "野鳥"),
            w("coral reefs", "サンゴ礁"),
            w("forests", "森"),
            w("insects", "昆虫"),
            w("snow country", "雪国"),
            w("deer", "鹿"),
            w("tide pools", "潮だまり"),
            w("volcanoes", "火山"),
        ],
    ),
    genre(
        w("science", "科学"),
        21.0,
        [
            w("astronomy", "天文"),
            w("chemistry", "化学実験"),
            w("mathematics", "数学"),
            w("deep sea", "深海"),
            w("robots at work", "働くロボット"),
            w("weather", "気象"),
            w("fossils", "化石"),
            w("microscopes", "顕微鏡"),
        ],
    ),
    genre(
        w("craft", "ものづくり"),
        16.0,
        [
            w("pottery", "陶芸"),
            w("woodworking", "木工"),
            w("knitting", "編み物"),
            w("leather", "革細工"),
            w("origami", "折り紙"),
            w("model railways", "鉄道模型"),
            w("indigo dye", "藍染め"),
            w("watch repair", "時計修理"),
        ],
    ),
    genre(
        w("games", "ゲーム"),
        27.0,
        [
            w("shogi", "将棋"),
            w("puzzles", "パズル"),
            w("retro games", "レトロゲーム"),
            w("board games", "ボードゲーム"),
            w("speedruns", "タイムアタック"),
            w("racing games", "レースゲーム"),
            w("go", "囲碁"),
            w("city builders", "街づくり"),
        ],
    ),
    genre(
        w("history", "歴史"),
        35.0,
        [
            w("castles", "城"),
            w("old maps", "古地図"),
            w("railway history", "鉄道史"),
            w("festivals", "祭り"),
            w("ancient tombs", "古墳"),
            w("trade routes", "街道"),
            w("everyday life", "昔の暮らし"),
            w("ships", "船の歴史"),
        ],
    ),
];

/// Tags that describe a video's character, not its topic.
pub(super) const MOODS: [Word; 10] = [
    w("relaxing", "癒やし"),
    w("for beginners", "初心者向け"),
    w("in depth", "徹底解説"),
    w("short", "短時間"),
    w("for families", "家族向け"),
    w("late night", "深夜"),
    w("live", "ライブ"),
    w("no narration", "ナレーションなし"),
    w("classic", "名作"),
    w("seasonal", "季節もの"),
];

pub(super) const PLACES: [Word; 24] = [
    w("Hokkaido", "北海道"),
    w("Aomori", "青森"),
    w("Sendai", "仙台"),
    w("Niigata", "新潟"),
    w("Tokyo", "東京"),
    w("Yokohama", "横浜"),
    w("Nagano", "長野"),
    w("Kanazawa", "金沢"),
    w("Nagoya", "名古屋"),
    w("Kyoto", "京都"),
    w("Osaka", "大阪"),
    w("Kobe", "神戸"),
    w("Okayama", "岡山"),
    w("Hiroshima", "広島"),
    w("Matsuyama", "松山"),
    w("Kochi", "高知"),
    w("Fukuoka", "福岡"),
    w("Nagasaki", "長崎"),
    w("Kumamoto", "熊本"),
    w("Okinawa", "沖縄"),
    w("Taipei", "台北"),
    w("Lisbon", "リスボン"),
    w("Helsinki", "ヘルシンキ"),
    w("Lima", "リマ"),
];

pub(super) const ADJECTIVES: [Word; 16] = [
    w("quiet", "静かな"),
    w("golden", "金色の"),
    w("little", "小さな"),
    w("forgotten", "忘れられた"),
    w("honest", "正直な"),
    w("endless", "終わらない"),
    w("winter", "冬の"),
    w("summer", "夏の"),
    w("curious", "ふしぎな"),
    w("slow", "ゆっくり"),
    w("secret", "ひみつの"),
    w("everyday", "いつもの"),
    w("brave", "勇敢な"),
    w("midnight", "真夜中の"),
    w("blue", "青い"),
    w("first", "はじめての"),
];

pub(super) const FORMATS: [Word; 12] = [
    w("a day in {}", "{}の一日"),
    w("the road to {}", "{}への道"),
    w("letters from {}", "{}からの便り"),
    w("{} after dark", "{}の夜"),
    w("{} in one take", "{}ワンカット"),
    w("everything about {}", "{}のすべて"),
    w("{} for two", "ふたりの{}"),
    w("rediscovering {}", "{}再発見"),
    w("{} step by step", "{}入門"),
    w("the {} sessions", "{}セッション"),
    w("why we love {}", "{}が好きな理由"),
    w("{}, slowly", "のんびり{}"),
];

pub(super) const MAKER_FIRST: [Word; 12] = [
    w("Komorebi", "こもれび"),
    w("Lantern", "ちょうちん"),
    w("North Harbour", "北港"),
    w("Paper Crane", "折り鶴"),
    w("Tanuki", "たぬき"),
    w("Blue Kettle", "青いやかん"),
    w("Seventh Hill", "七つ丘"),
    w("Driftwood", "流木"),
    w("Little Bridge", "小橋"),
    w("Moonrise", "月の出"),
    w("Persimmon", "柿の木"),
    w("Red Tram", "赤い路面電車"),
];

pub(super) const MAKER_SECOND: [Word; 6] = [
    w("Pictures", "映像"),
    w("Studio", "スタジオ"),
    w("Channel", "チャンネル"),
    w("Works", "工房"),
    w("Collective", "舎"),
    w("Broadcasting", "放送"),
];

pub(super) const STAGE_FIRST: [Word; 20] = [
    w("Cheerful", "ほがらか"),
    w("Drowsy", "ねむたい"),
    w("Velvet", "ビロード"),
    w("Thunder", "かみなり"),
    w("Gentle", "やさしい"),
    w("Rapid", "はやあし"),
    w("Mister", "ミスター"),
    w("Captain", "キャプテン"),
    w("Sugar", "さとう"),
    w("Cloudy", "くもり"),
    w("Lucky", "ラッキー"),
    w("Silver", "銀色"),
    w("Professor", "はかせ"),
    w("Tiny", "ちび"),
    w("Northern", "北の"),
    w("Neon", "ネオン"),
    w("Pepper", "こしょう"),
    w("Rainy", "雨の"),
    w("Marble", "大理石"),
    w("Wandering", "さすらい"),
];

pub(super) const STAGE_SECOND: [Word; 20] = [
    w("Otter", "カワウソ"),
    w("Heron", "サギ"),
    w("Badger", "アナグマ"),
    w("Plum", "梅子"),
    w("Kite", "凧"),
    w("Lynx", "ヤマネコ"),
    w("Radish", "大根"),
    w("Sparrow", "すずめ"),
    w("Comet", "彗星"),
    w("Turtle", "亀吉"),
    w("Walnut", "くるみ"),
    w("Gecko", "ヤモリ"),
    w("Crane", "鶴丸"),
    w("Biscuit", "ビスケット"),
    w("Owl", "ふくろう"),
    w("Pine", "松"),
    w("Whale", "くじら"),
    w("Fern", "シダ"),
    w("Ferret", "フェレット"),
    w("Mochi", "もち"),
];
